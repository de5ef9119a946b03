package bustest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/novacron/novacron/internal/bus"
)

// slow is a subscription that stands still at its first message, with a log of numbers and gaps.
type slow struct {
	*log
	begun, release chan struct{}
}

func newSlow() *slow {
	return &slow{log: newLog(), begun: make(chan struct{}, 1), release: make(chan struct{})}
}

func (s *slow) handle(_ context.Context, m bus.Message) {
	select {
	case s.begun <- struct{}{}:
	default:
	}
	<-s.release
	s.add("got " + string(m.Data))
}

func (s *slow) gap(_ context.Context, lost uint64) { s.add(fmt.Sprint("lost ", lost)) }

// flood publishes the numbers from first on, and returns once a subscription with room for all of them has got the last.
func flood(e *env, first, messages int) {
	e.Helper()
	fast := newLog()
	sub := e.subscribe("flood", bus.SubscribeOptions{Capacity: messages}, fast.data)
	defer sub.Close()
	for i := range messages {
		e.publish("flood", fmt.Sprint(first+i))
	}
	if got := fast.contains(e, fmt.Sprint(first+messages-1)); len(got) != messages {
		e.Errorf("a subscription with room got %d of %d", len(got), messages)
	}
}

// exact tells whether the numbers that a log got and those that it was told lost are all up to the last it got, in order.
func exact(e *env, entries []string) (got, lost int) {
	e.Helper()
	next := 0
	for _, entry := range entries {
		var n int
		if _, err := fmt.Sscanf(entry[strings.Index(entry, " ")+1:], "%d", &n); err != nil {
			e.Fatal(err)
		}
		if strings.HasPrefix(entry, "lost ") {
			if n <= 0 {
				e.Errorf("a gap of %d messages", n)
			}
			next += n
			lost += n
			continue
		}
		if n != next {
			e.Fatalf("message %d arrived when, by what was told of gaps, %d was due", n, next)
		}
		next++
		got++
	}
	return got, lost
}

func gapExact(e *env) {
	const capacity, messages = 10, 5000
	var busy atomic.Int32
	alone := func() func() {
		if busy.Add(1) != 1 {
			e.Error("handler and gap handler run at once")
		}
		return func() { busy.Add(-1) }
	}
	s := newSlow()
	e.subscribe("flood", bus.SubscribeOptions{
		Capacity: capacity,
		OnGap:    func(ctx context.Context, lost uint64) { defer alone()(); s.gap(ctx, lost) },
	}, func(ctx context.Context, m bus.Message) { defer alone()(); s.handle(ctx, m) })
	flood(e, 0, messages) // a publisher that waited for the slow one would never end
	await(e, s.begun, "the slow subscription to begin")
	close(s.release)
	// Publish until something that came after the gap arrives; it may be lost as well while the queue is still full.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	next, after := messages, false
	for !after {
		e.publish("flood", fmt.Sprint(next))
		next++
		select {
		case <-tick.C:
		case <-deadline:
			e.Fatal("nothing arrives after the gap")
		}
		entries, _ := s.now()
		for _, entry := range entries {
			var n int
			if _, err := fmt.Sscanf(entry, "got %d", &n); err == nil && n >= messages {
				after = true
			}
		}
	}
	entries, _ := s.now()
	got, lost := exact(e, entries)
	if lost == 0 || got < capacity {
		e.Errorf("got %d and was told of %d lost", got, lost)
	}
}

// gapAtEnd: a subscriber must learn of a gap though nothing follows it, or it would be behind for as long as its subject is silent.
func gapAtEnd(e *env) {
	const capacity, messages = 5, 500
	s := newSlow()
	e.subscribe("flood", bus.SubscribeOptions{Capacity: capacity, OnGap: s.gap}, s.handle)
	flood(e, 0, messages)
	close(s.release)
	s.until(e, "the whole of the flood to be accounted for", func(entries []string) bool {
		got, lost := exact(e, entries)
		return got+lost == messages
	})
}

func overflowAlone(e *env) {
	s := newSlow()
	defer close(s.release)
	e.subscribe("flood", bus.SubscribeOptions{Capacity: 1}, s.handle)
	e.subscribe("*", bus.SubscribeOptions{Capacity: 1, OnGap: s.gap}, s.handle)
	for i := range 3 {
		flood(e, i*1000, 1000)
	}
}

func gapSilent(e *env) {
	s := newSlow()
	e.subscribe("flood", bus.SubscribeOptions{Capacity: 3}, s.handle)
	flood(e, 0, 100)
	close(s.release)
	s.count(e, 3, "what there was room for")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		e.publish("flood", "after")
		select {
		case <-tick.C:
		case <-deadline:
			e.Fatal("nothing arrives after the gap")
		}
		if entries, _ := s.now(); entries[len(entries)-1] == "got after" {
			return
		}
	}
}

func defaultCapacity(e *env) {
	s := newSlow()
	e.subscribe("flood", bus.SubscribeOptions{OnGap: s.gap}, s.handle)
	e.publish("flood", "0")
	await(e, s.begun, "the slow subscription to begin")
	flood(e, 1, 2*bus.DefaultCapacity)
	close(s.release)
	entries := s.until(e, "the gap", func(entries []string) bool {
		_, lost := exact(e, entries)
		return lost > 0
	})
	// One is handled and DefaultCapacity wait; an implementation may hold a few more on their way.
	if got, _ := exact(e, entries); got <= bus.DefaultCapacity || got > bus.DefaultCapacity+8 {
		e.Errorf("%d messages arrived before the gap, want %d and the one at work", got, bus.DefaultCapacity)
	}
}
