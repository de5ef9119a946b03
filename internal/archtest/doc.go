// Package archtest holds the architecture as a test: which package may import which, and how large a file may grow. Each rule says why.
// A rule that is wrong is changed in an ADR first and here second, never worked around.
package archtest
