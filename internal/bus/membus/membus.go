// Package membus is the bus within one process. It has the semantics of NATS: wildcards, queue groups, request/reply, bounded
// queues that drop what a slow subscriber cannot take and tell it so. Each subscription has a goroutine of its own, which ends
// when the subscription or the bus is closed.
package membus

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/novacron/novacron/internal/bus"
)

// Bus is safe for concurrent use.
type Bus struct {
	inbox atomic.Uint64 // numbers the reply subjects

	mu       sync.RWMutex // guards all below
	closed   bool
	exact    map[string][]*subscription // by subject without wildcards
	patterns []*subscription
}

var _ bus.Bus = (*Bus)(nil)

// New makes an empty bus.
func New() *Bus { return &Bus{exact: map[string][]*subscription{}} }

// Publish implements bus.Bus. The payload is copied once, so the caller may use its buffer again; subscribers share the copy and
// must not change it.
func (b *Bus) Publish(_ context.Context, m bus.Message) error {
	_, err := b.publish(m)
	return err
}

// publish tells how many subscriptions the message matched.
func (b *Bus) publish(m bus.Message) (int, error) {
	if err := bus.ValidSubject(m.Subject); err != nil {
		return 0, err
	}
	m.Data = slices.Clone(m.Data)
	m.Header = maps.Clone(m.Header)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return 0, bus.ErrClosed
	}
	delivered := 0
	var groups map[string][]*subscription
	offer := func(s *subscription) {
		if s.queue == "" {
			s.offer(m)
			delivered++
			return
		}
		if groups == nil {
			groups = map[string][]*subscription{}
		}
		groups[s.queue] = append(groups[s.queue], s)
	}
	for _, s := range b.exact[m.Subject] {
		offer(s)
	}
	for _, s := range b.patterns {
		if bus.Match(s.pattern, m.Subject) {
			offer(s)
		}
	}
	for _, members := range groups {
		members[rand.IntN(len(members))].offer(m)
		delivered++
	}
	return delivered, nil
}

// Request implements bus.Bus.
func (b *Bus) Request(ctx context.Context, m bus.Message) (bus.Message, error) {
	replies := make(chan bus.Message, 1)
	m.Reply = "_INBOX." + strconv.FormatUint(b.inbox.Add(1), 36)
	sub, err := b.Subscribe(m.Reply, bus.SubscribeOptions{Capacity: 1}, func(_ context.Context, r bus.Message) {
		select {
		case replies <- r:
		default: // the first reply counts
		}
	})
	if err != nil {
		return bus.Message{}, err
	}
	defer sub.Close()
	delivered, err := b.publish(m)
	if err != nil {
		return bus.Message{}, err
	}
	if delivered == 0 {
		return bus.Message{}, bus.ErrNoResponders
	}
	select {
	case r := <-replies:
		return r, nil
	case <-sub.(*subscription).ctx.Done():
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
	if opts.Capacity <= 0 {
		opts.Capacity = bus.DefaultCapacity
	}
	s := &subscription{bus: b, pattern: pattern, queue: opts.Queue, capacity: opts.Capacity, onGap: opts.OnGap, handler: h,
		wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.cancel()
		return nil, bus.ErrClosed
	}
	if strings.ContainsAny(pattern, "*>") {
		b.patterns = append(b.patterns, s)
	} else {
		b.exact[pattern] = append(b.exact[pattern], s)
	}
	go s.run()
	return s, nil
}

func (b *Bus) remove(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := func(other *subscription) bool { return other == s }
	b.patterns = slices.DeleteFunc(b.patterns, is)
	if left := slices.DeleteFunc(b.exact[s.pattern], is); len(left) > 0 {
		b.exact[s.pattern] = left
	} else {
		delete(b.exact, s.pattern)
	}
}

// Close implements bus.Bus: it ends every subscription and waits for the handlers that are running.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	open := slices.Clone(b.patterns)
	for _, subs := range b.exact {
		open = append(open, subs...)
	}
	b.mu.Unlock()
	for _, s := range open {
		s.Close()
	}
	for _, s := range open {
		<-s.done
	}
	return nil
}

// subscription hands its messages to one handler, one at a time.
type subscription struct {
	bus      *Bus
	pattern  string
	queue    string
	capacity int
	onGap    bus.GapHandler
	handler  bus.Handler
	ctx      context.Context // of the handler; ends with the subscription
	cancel   context.CancelFunc
	wake     chan struct{} // has an element while there may be something to do
	done     chan struct{} // closed when run has returned

	mu      sync.Mutex // guards pending and lost
	pending []waiting
	lost    uint64 // since the last message that found room
}

// waiting is a message in a queue, with how many were lost between the one before it and it.
type waiting struct {
	bus.Message
	lostBefore uint64
}

// offer never blocks: what finds the queue full is lost, and counted.
func (s *subscription) offer(m bus.Message) {
	s.mu.Lock()
	if len(s.pending) >= s.capacity {
		s.lost++
	} else {
		s.pending = append(s.pending, waiting{Message: m, lostBefore: s.lost})
		s.lost = 0
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) run() {
	defer close(s.done)
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		}
		for s.ctx.Err() == nil && s.next() {
		}
	}
}

// next handles the oldest message, after telling of a gap before it. Messages lost at the end of the queue are told of once it is empty.
func (s *subscription) next() bool {
	s.mu.Lock()
	var m waiting
	have := len(s.pending) > 0
	if have {
		m = s.pending[0]
		s.pending[0] = waiting{}
		s.pending = s.pending[1:]
	} else {
		m.lostBefore, s.lost = s.lost, 0
	}
	s.mu.Unlock()
	if m.lostBefore > 0 && s.onGap != nil {
		s.guard(func() { s.onGap(s.ctx, m.lostBefore) })
	}
	if have && s.ctx.Err() == nil {
		s.guard(func() { s.handler(s.ctx, m.Message) })
	}
	return have
}

// guard keeps a panic of one handler from ending the process.
func (s *subscription) guard(call func()) {
	defer func() {
		if p := recover(); p != nil {
			slog.ErrorContext(s.ctx, "handler of a bus message panicked", "subject", s.pattern, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	call()
}

// Close implements bus.Subscription.
func (s *subscription) Close() {
	s.cancel()
	s.bus.remove(s)
}
