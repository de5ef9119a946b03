package membus

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/novacron/novacron/internal/bus"
)

// Bus is a bus.Bus. It is safe for concurrent use.
type Bus struct {
	inbox atomic.Uint64   // numbers the reply subjects
	lost  atomic.Uint64   // messages dropped for full queues
	base  context.Context // its values are those of the handlers' contexts

	closing  chan struct{}  // closed by Close, so that requests end
	handlers sync.WaitGroup // goroutines that run handlers; grows only while mu is held and closed is false

	mu     sync.RWMutex // guards all below
	closed bool
	table  table
}

var _ bus.Bus = (*Bus)(nil)

// New makes an empty bus.
func New() *Bus { return NewWith(context.Background()) }

// NewWith makes an empty bus whose handlers find the values of ctx in their contexts: what they need to trace.
func NewWith(ctx context.Context) *Bus {
	return &Bus{base: context.WithoutCancel(ctx), closing: make(chan struct{}), table: newTable()}
}

// Lost counts the messages that were dropped because a subscription's queue was full, over all subscriptions since New.
func (b *Bus) Lost() uint64 { return b.lost.Load() }

// Publish implements bus.Bus. The context is not used: publishing never waits.
func (b *Bus) Publish(_ context.Context, m bus.Message) error {
	_, err := b.publish(m)
	return err
}

// publish tells how many subscriptions were offered the message.
func (b *Bus) publish(m bus.Message) (int, error) {
	if err := bus.ValidSubject(m.Subject); err != nil {
		return 0, err
	}
	// The publisher may use its buffer again. Clipped, so that a handler that appends gets memory of its own.
	m.Data = slices.Clip(slices.Clone(m.Data))
	m.Header = maps.Clone(m.Header)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return 0, bus.ErrClosed
	}
	offered := 0
	var groups map[string][]*subscription
	b.table.match(m.Subject, func(subs []*subscription) {
		for _, s := range subs {
			if s.queue == "" {
				s.offer(&m)
				offered++
				continue
			}
			if groups == nil {
				groups = map[string][]*subscription{}
			}
			groups[s.queue] = append(groups[s.queue], s)
		}
	})
	// A group is known by its name alone: members with different patterns that match are still one group, as in a NATS server.
	for _, members := range groups {
		members[rand.IntN(len(members))].offer(&m)
		offered++
	}
	return offered, nil
}

// Request implements bus.Bus.
func (b *Bus) Request(ctx context.Context, m bus.Message) (bus.Message, error) {
	if err := bus.ValidSubject(m.Subject); err != nil {
		return bus.Message{}, err
	}
	if err := ctx.Err(); err != nil {
		return bus.Message{}, bus.ErrTimeout.Wrap(err)
	}
	m.Reply = "_INBOX." + strconv.FormatUint(b.inbox.Add(1), 36)
	replies := make(chan *bus.Message, 1)
	inbox := newSubscription(b, m.Reply, bus.SubscribeOptions{}, nil)
	inbox.replies = replies
	if err := b.add(inbox); err != nil {
		return bus.Message{}, err
	}
	defer inbox.Close()
	offered, err := b.publish(m)
	if err != nil {
		return bus.Message{}, err
	}
	if offered == 0 {
		return bus.Message{}, bus.ErrNoResponders
	}
	select {
	case r := <-replies:
		return *r, nil
	case <-b.closing:
		return bus.Message{}, bus.ErrClosed
	case <-ctx.Done():
		return bus.Message{}, bus.ErrTimeout.Wrap(ctx.Err())
	}
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(pattern string, opts bus.SubscribeOptions, h bus.Handler) (bus.Subscription, error) {
	if err := bus.ValidPattern(pattern); err != nil {
		return nil, err
	}
	if err := bus.ValidQueue(opts.Queue); err != nil {
		return nil, err
	}
	s := newSubscription(b, pattern, opts, h)
	if err := b.add(s); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

func (b *Bus) add(s *subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return bus.ErrClosed
	}
	b.table.add(s)
	return nil
}

func (b *Bus) remove(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.remove(s)
}

// Close implements bus.Bus.
func (b *Bus) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
		b.table.each((*subscription).end)
		b.table = newTable()
	}
	b.mu.Unlock()
	b.handlers.Wait()
	return nil
}
