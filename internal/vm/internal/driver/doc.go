// Package driver is the seam between the node role and a hypervisor: what the node needs of one, in plain structs of our own.
//
// Invariants that every implementation keeps, and drivertest checks:
//   - only domains and networks that carry our metadata are seen; foreign ones are never listed, reported or touched;
//   - a call for a domain that is not there answers nodeapi.ErrNotDefined, and one while the hypervisor is away answers
//     nodeapi.ErrHypervisor (retryable);
//   - changing calls are idempotent: starting what runs, destroying what is off and undefining what is absent succeed;
//   - events of one domain arrive in the order in which they happened, on one goroutine at a time.
//
// Only the node role calls it. Implementations: libvirt (the real one) and fake (for tests of the node, with faults).
package driver
