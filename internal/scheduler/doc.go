// Package scheduler is the contract of the scheduler module: which node a virtual machine runs on, what is promised to it there, and
// how much of everything a tenant may have.
//
// The module owns the list of nodes, the allocations and the quota counters, and keeps one invariant: in every committed state the
// counters of a node and of a tenant are the sums of their allocations. A place is taken by Reserve, made permanent by Confirm and
// given back by Release; a reservation that nobody confirms gives itself back. All three may be repeated. This package is a leaf:
// other modules import it, it imports none of them.
package scheduler
