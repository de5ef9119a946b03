// Package errs holds the one error type that NovaCron's modules, REST answers and events share.
//
// An Error has a stable public code, tells what failed, at which step, whether a retry can help and what to do.
// Contract packages define theirs as variables and list them in a function Errors, from which docs/errors.md is generated.
package errs
