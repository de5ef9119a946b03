package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// Topic is a subject whose payloads are JSON of one type.
type Topic[T any] struct{ subject string }

// NewTopic names a topic. The subject may be a pattern for a topic that is only subscribed to.
func NewTopic[T any](subject string) Topic[T] { return Topic[T]{subject: subject} }

// Subject gives the topic's subject.
func (t Topic[T]) Subject() string { return t.subject }

// Publish encodes v and hands it to every subscriber.
func (t Topic[T]) Publish(ctx context.Context, b Bus, v T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", t.subject, err)
	}
	return b.Publish(ctx, Message{Subject: t.subject, Header: traceHeader(ctx), Data: data})
}

// Subscribe decodes what arrives. A payload that is not a T is counted, logged and dropped: its publisher is of another version. Such a
// publisher repeats itself, so the log gets the 1st, 2nd, 4th, 8th… of a subscription, each with the count.
func (t Topic[T]) Subscribe(b Bus, opts SubscribeOptions, h func(ctx context.Context, v T)) (Subscription, error) {
	var dropped atomic.Uint64
	return b.Subscribe(t.subject, opts, func(ctx context.Context, m Message) {
		var v T
		if err := json.Unmarshal(m.Data, &v); err != nil {
			if n := dropped.Add(1); n&(n-1) == 0 {
				slog.WarnContext(ctx, "message dropped: it cannot be decoded", "subject", m.Subject, "dropped", n, "error", err)
			}
			return
		}
		h(traced(ctx, m), v)
	})
}
