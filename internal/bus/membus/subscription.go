package membus

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/novacron/novacron/internal/bus"
)

// subscription hands its messages to one handler, one at a time. While it has none it costs no goroutine.
type subscription struct {
	bus      *Bus
	pattern  string
	queue    string
	capacity int
	onGap    bus.GapHandler
	handler  bus.Handler
	replies  chan<- *bus.Message // of an inbox, which has no handler: the first reply goes here
	ctx      context.Context     // of the handler; ends with the subscription
	cancel   context.CancelFunc

	mu      sync.Mutex // guards all below; taken after the bus's, never before
	closed  bool
	running bool // a goroutine is at work on pending
	pending queue
	lost    uint64 // since the last message that found room
}

func newSubscription(b *Bus, pattern string, opts bus.SubscribeOptions, h bus.Handler) *subscription {
	if opts.Capacity <= 0 {
		opts.Capacity = bus.DefaultCapacity
	}
	s := &subscription{bus: b, pattern: pattern, queue: opts.Queue, capacity: opts.Capacity, onGap: opts.OnGap, handler: h}
	s.ctx, s.cancel = context.WithCancel(b.base)
	return s
}

// offer never blocks: what finds the queue full is lost, and counted. The caller holds the bus's lock for reading and has seen it open.
func (s *subscription) offer(m *bus.Message) {
	if s.replies != nil {
		select {
		case s.replies <- m:
		default: // the first reply counts
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.pending.len() >= s.capacity:
		s.lost++
		s.bus.lost.Add(1)
	default:
		s.pending.push(waiting{message: m, lostBefore: s.lost})
		s.lost = 0
		if !s.running {
			s.running = true
			s.bus.handlers.Add(1)
			go s.run() // ends when nothing is pending, or the subscription is closed
		}
	}
}

func (s *subscription) run() {
	defer s.bus.handlers.Done()
	for {
		w, ok := s.next()
		if !ok {
			return
		}
		if w.lostBefore > 0 && s.onGap != nil {
			s.guard(func() { s.onGap(s.ctx, w.lostBefore) })
			if s.ctx.Err() != nil { // closed by OnGap, or meanwhile
				w.message = nil
			}
		}
		if w.message != nil {
			s.guard(func() { s.handler(s.ctx, *w.message) })
		}
	}
}

// next takes what is to be done next. Messages lost at the end of the queue are told of once it is empty, for the next message may be
// long in coming. When there is nothing to do, running ends in the same step, so that offer begins anew.
func (s *subscription) next() (w waiting, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.pending.len() > 0:
		return s.pending.pop(), true
	case s.lost > 0:
		w.lostBefore, s.lost = s.lost, 0
		return w, true
	}
	s.running = false
	return w, false
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
	s.end()
	s.bus.remove(s)
}

// end drops what is pending and ends the handler's context.
func (s *subscription) end() {
	s.mu.Lock()
	s.closed = true
	s.pending = queue{}
	s.mu.Unlock()
	s.cancel()
}

// waiting is a message in a queue, with how many were lost between the one before it and it.
type waiting struct {
	message    *bus.Message // shared with other subscriptions
	lostBefore uint64
}

// queue is a ring that grows.
type queue struct {
	ring  []waiting
	first int
	count int
}

func (q *queue) len() int { return q.count }

func (q *queue) push(w waiting) {
	if q.count == len(q.ring) {
		grown := make([]waiting, max(4, 2*q.count))
		n := copy(grown, q.ring[q.first:])
		copy(grown[n:], q.ring[:q.first])
		q.ring, q.first = grown, 0
	}
	q.ring[(q.first+q.count)%len(q.ring)] = w
	q.count++
}

func (q *queue) pop() waiting {
	w := q.ring[q.first]
	q.ring[q.first] = waiting{} // so that the message can be collected
	q.first = (q.first + 1) % len(q.ring)
	q.count--
	return w
}
