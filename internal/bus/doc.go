// Package bus is the contract of the message bus that carries events and commands between modules: subjects, typed topics,
// request/reply. Its semantics are NATS', so that the in-process bus (package membus) and a NATS server are interchangeable;
// package bustest is the suite that every implementation passes.
//
// Delivery is at most once for each subscription and a publisher never waits. What must not be lost goes through a transactional
// outbox, whose relay publishes it at least once; consumers deduplicate by event id.
package bus
