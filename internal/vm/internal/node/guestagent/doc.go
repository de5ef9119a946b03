// Package guestagent speaks the protocol of the QEMU guest agent (QEMU, docs/interop/qemu-ga-ref): it makes commands and reads answers. What
// answers is a guest, and a guest is nobody's friend: every answer is bounded, checked, and cut to what a person can read.
//
// It knows nothing of hypervisors, turns and limits; the node hands it a way to ask. Nothing here holds a lock.
package guestagent
