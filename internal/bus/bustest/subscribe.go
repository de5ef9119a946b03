package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/novacron/novacron/internal/bus"
)

func oneAtATime(e *env) {
	var busy atomic.Int32
	got := newLog()
	e.subscribe("serial", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		if n := busy.Add(1); n != 1 {
			e.Errorf("%d calls at once", n)
		}
		got.data(ctx, m)
		busy.Add(-1)
	})
	var wg sync.WaitGroup
	for p := range 4 {
		wg.Go(func() {
			for i := range 100 {
				_ = e.bus.Publish(e.ctx, bus.Message{Subject: e.on("serial"), Data: fmt.Appendf(nil, "%d %d", p, i)})
			}
		})
	}
	wg.Wait()
	got.count(e, 400, "all messages")
}

func panics(e *env) {
	got, other := newLog(), newLog()
	e.subscribe("panic", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		got.data(ctx, m)
		if string(m.Data) == "2" {
			panic("a handler panics, as the test wants it to")
		}
	})
	e.subscribe("panic", bus.SubscribeOptions{}, other.data)
	for _, data := range []string{"1", "2", "3"} {
		e.publish("panic", data)
	}
	for name, l := range map[string]*log{"the one that panicked": got, "another": other} {
		if entries := l.contains(e, "3"); !slices.Equal(entries, []string{"1", "2", "3"}) {
			e.Errorf("%s got %q", name, entries)
		}
	}
}

// reentrant: a handler publishes, also on its own subject, requests, and subscribes.
func reentrant(e *env) {
	got := newLog()
	e.subscribe("echo", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		if err := e.bus.Publish(ctx, bus.Message{Subject: m.Reply, Data: append([]byte("echo "), m.Data...)}); err != nil {
			e.Error(err)
		}
	})
	e.subscribe("start", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		if n := len(m.Data); n < 3 {
			if err := e.bus.Publish(ctx, bus.Message{Subject: m.Subject, Data: append([]byte("x"), m.Data...)}); err != nil {
				e.Error(err)
			}
			return
		}
		r, err := e.bus.Request(ctx, bus.Message{Subject: e.on("echo"), Data: m.Data})
		if err != nil {
			e.Error(err)
			return
		}
		s, err := e.bus.Subscribe(e.on("inner"), bus.SubscribeOptions{}, got.data)
		if err != nil {
			e.Error(err)
			return
		}
		_ = s // ends with the bus
		if err := e.bus.Publish(ctx, bus.Message{Subject: e.on("inner"), Data: r.Data}); err != nil {
			e.Error(err)
		}
	})
	e.publish("start", "")
	got.contains(e, "echo xxx")
}

func subscriptionClose(e *env) {
	g, other := newGate(), newLog()
	sub := e.subscribe("end", bus.SubscribeOptions{}, g.handle)
	e.subscribe("end", bus.SubscribeOptions{}, other.data)
	for _, data := range []string{"1", "2", "3"} {
		e.publish("end", data)
	}
	await(e, g.begun, "the first call")
	other.contains(e, "3")
	ctx := await(e, g.contexts, "its context")
	if ctx.Err() != nil {
		e.Error("the context of a call has ended before the subscription did")
	}
	sub.Close() // while the handler runs
	await(e, ctx.Done(), "the end of the context")
	sub.Close()
	e.publish("end", "4")
	close(g.release)
	other.contains(e, "4")
	g.contains(e, "1")
	// A fresh subscription proves that the old one has had its chance.
	later := newLog()
	e.subscribe("end", bus.SubscribeOptions{}, later.data)
	e.publish("end", "5")
	later.contains(e, "5")
	if got, _ := g.now(); len(got) != 1 {
		e.Errorf("a closed subscription got %q", got)
	}
	never(e, g.begun, "a call began after Close")
}

func closeInHandler(e *env) {
	var sub bus.Subscription
	ready := make(chan struct{})
	got := newLog()
	sub = e.subscribe("self", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		<-ready
		sub.Close()
		if ctx.Err() == nil {
			e.Error("the context goes on after Close")
		}
		got.data(ctx, m)
	})
	close(ready)
	other := newLog()
	e.subscribe("self", bus.SubscribeOptions{}, other.data)
	e.publish("self", "1")
	e.publish("self", "2")
	got.contains(e, "1")
	other.contains(e, "2")
	if entries, _ := got.now(); len(entries) != 1 {
		e.Errorf("got %q", entries)
	}
}

// churn: subscriptions come and go while others publish; whoever stays misses nothing.
func churn(e *env) {
	const messages = 2000
	stays := newLog()
	e.subscribe("churn.>", bus.SubscribeOptions{Capacity: messages}, stays.data)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		pattern := []string{"churn.x", "churn.*", "*.x", ">"}[i]
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := e.bus.Subscribe(e.on(pattern), bus.SubscribeOptions{Queue: []string{"", "q"}[i%2]}, func(context.Context, bus.Message) {})
				if err != nil {
					e.Error(err)
					return
				}
				s.Close()
			}
		})
	}
	for i := range messages {
		e.publish("churn.x", fmt.Sprint(i))
	}
	close(stop)
	wg.Wait()
	for i, entry := range stays.count(e, messages, "all messages") {
		if entry != fmt.Sprint(i) {
			e.Fatalf("message %d is %s", i, entry)
		}
	}
}
