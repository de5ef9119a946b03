package outbox_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

const patience = time.Minute

// recorder is a bus that keeps what is published, fails when told to, and delivers requests to handlers directly.
type recorder struct {
	mu       sync.Mutex
	messages []bus.Message
	refuse   func(bus.Message) error
	handlers map[string]bus.Handler
	changed  chan struct{} // closed and renewed at each attempt to publish
}

func newRecorder() *recorder {
	return &recorder{handlers: map[string]bus.Handler{}, changed: make(chan struct{})}
}

func (b *recorder) Publish(_ context.Context, m bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { close(b.changed); b.changed = make(chan struct{}) }()
	if b.refuse != nil {
		if err := b.refuse(m); err != nil {
			return err
		}
	}
	b.messages = append(b.messages, m)
	return nil
}

func (b *recorder) Request(ctx context.Context, m bus.Message) (bus.Message, error) {
	b.mu.Lock()
	h := b.handlers[m.Subject]
	b.mu.Unlock()
	if h == nil {
		return bus.Message{}, bus.ErrNoResponders
	}
	m.Reply = "inbox." + uuid.NewString()
	h(ctx, m)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range b.messages {
		if r.Subject == m.Reply {
			b.messages = slices.Delete(b.messages, i, i+1)
			return r, nil
		}
	}
	return bus.Message{}, bus.ErrTimeout
}

func (b *recorder) Subscribe(subject string, _ bus.SubscribeOptions, h bus.Handler) (bus.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.handlers[subject] != nil {
		return nil, errors.New("the recorder takes one subscription for each subject")
	}
	b.handlers[subject] = h
	return subscription{b, subject}, nil
}

func (b *recorder) Close() error { return nil }

type subscription struct {
	b       *recorder
	subject string
}

func (s subscription) Close() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	delete(s.b.handlers, s.subject)
}

func (b *recorder) setRefuse(f func(bus.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = f
}

// await waits until ok is true of what was published.
func (b *recorder) await(t *testing.T, what string, ok func([]bus.Message) bool) []bus.Message {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		b.mu.Lock()
		messages, changed := slices.Clone(b.messages), b.changed
		b.mu.Unlock()
		if ok(messages) {
			return messages
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("it did not happen: %s; %d messages came", what, len(messages))
		}
	}
}

// awaitIDs waits for exactly these events, in this order, repetitions left out.
func (b *recorder) awaitIDs(t *testing.T, want []uuid.UUID) {
	t.Helper()
	b.await(t, "all events in order", func(messages []bus.Message) bool {
		var got []uuid.UUID
		for _, m := range messages {
			id := uuid.MustParse(m.Header[outbox.HeaderEventID])
			if !slices.Contains(got, id) {
				got = append(got, id)
			}
		}
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("got %v, want %v", got, want)
		}
		return len(got) == len(want)
	})
}
