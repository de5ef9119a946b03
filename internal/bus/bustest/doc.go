// Package bustest is the conformance suite of the bus: what bus.Bus promises, as tests that every implementation passes.
//
// It assumes nothing that a NATS server could not keep: not that a message has arrived when Publish returns, nor that two
// subscriptions see messages at the same time. Where something must not arrive, a later message on the same subscription is waited
// for, which per-publisher order puts behind it. Only tests import it.
package bustest

import (
	"testing"

	"github.com/novacron/novacron/internal/bus"
)

// Run tests the buses that newBus makes: each test asks for one of its own. The buses may share a server, for no two tests use the same
// subjects. The suite closes them.
func Run(t *testing.T, newBus func(t *testing.T) bus.Bus) {
	for name, test := range map[string]func(*env){
		"subjects/wildcards":                       wildcards,
		"subjects/invalid":                         invalidSubjects,
		"publish/message arrives whole":            wholeMessage,
		"publish/buffer may be reused":             bufferReuse,
		"publish/order of each publisher":          order,
		"publish/one copy for each subscription":   oneEach,
		"publish/nobody listens":                   nobodyListens,
		"subscribe/one message at a time":          oneAtATime,
		"subscribe/panic ends one call only":       panics,
		"subscribe/handler may use the bus":        reentrant,
		"subscribe/close drops what waits":         subscriptionClose,
		"subscribe/close by its own handler":       closeInHandler,
		"subscribe/churn":                          churn,
		"queue group/one member each":              queueGroup,
		"queue group/members come and go":          queueGroupMembers,
		"overflow/gap is told and exact":           gapExact,
		"overflow/gap is told without more to say": gapAtEnd,
		"overflow/others are not disturbed":        overflowAlone,
		"overflow/without a gap handler":           gapSilent,
		"overflow/default capacity":                defaultCapacity,
		"request/answer":                           requestAnswer,
		"request/first reply counts":               firstReply,
		"request/many at once":                     manyRequests,
		"request/no responders":                    noResponders,
		"request/timeout and cancel":               requestTimeout,
		"request/queue group":                      requestQueueGroup,
		"close/everything fails afterwards":        closed,
		"close/waits for handlers":                 closeWaits,
		"close/ends requests":                      closeEndsRequests,
		"topic/typed events":                       topic,
		"topic/undecodable payloads":               topicUndecodable,
		"call/answers and errors":                  callErrors,
		"call/bad payloads":                        callBadPayloads,
		"call/deadline travels":                    callDeadline,
		"call/caller gives up":                     callerGivesUp,
		"call/expired in the queue":                callExpired,
		"serve/several at a time, bounded":         serveConcurrency,
		"serve/panic is an error of one call":      servePanic,
		"serve/close":                              serveClose,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test(newEnv(t, b))
		})
	}
}
