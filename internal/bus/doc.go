// Package bus is the contract of the message bus that carries events and commands between modules: subjects, typed topics,
// request/reply. Its semantics are NATS', so that the in-process bus (package membus) and a NATS server are interchangeable;
// package bustest is the suite that every implementation passes.
//
// Delivery is at most once for each subscription and a publisher never waits. What must not be lost goes through a transactional
// outbox, whose relay publishes it at least once; consumers deduplicate by event id. A subscription whose queue was full is told of
// the gap and asks for what it missed on ReplaySubject.
//
// On top of the contract stand, for any implementation: Topic, for events of one type, handled one at a time and in order; and Call and
// Serve, for commands, handled several at a time, whose errors keep their code on the way back and whose deadline travels along.
//
// Every module may import it; it imports none. The payloads that cross modules are in package event.
package bus
