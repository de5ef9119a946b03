// Package membus is the bus within one process. It has the semantics of NATS: wildcards, queue groups, request/reply, bounded
// queues that drop what a slow subscriber cannot take and tell it so.
//
// Invariants: a publisher never waits for a handler; a payload is copied once, when it is published, and never changed afterwards; a
// subscription has one goroutine at most, and only while it has messages; Close leaves none.
//
// Only internal/app and tests make one; everybody else knows the interface bus.Bus.
package membus
