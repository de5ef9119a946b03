// Package apiclient is a typed client of NovaCron's REST API.
//
// Answers are Objects: the typed value, and the JSON exactly as the server sent it, so that what a newer server adds is not lost on the
// way to a script. A refused request gives an *Error with the server's problem document in it; an operation that did not succeed gives an
// *OperationError.
//
// Calls are repeated only where that is safe: reads and deletes, and those POSTs that carry an Idempotency-Key. Access tokens are renewed
// by themselves, under the lock of the TokenStore, because a refresh token works once and its second use ends the session.
//
// The package knows of the server nothing but its contract: internal/vm and internal/auth for the types, platform/errs for problems. Anyone may use it.
package apiclient
