package bustest

import (
	"context"
	"errors"
	"sync"

	"github.com/novacron/novacron/internal/bus"
)

func closed(e *env) {
	got := newLog()
	sub := e.subscribe("gone", bus.SubscribeOptions{}, got.data)
	e.publish("gone", "1")
	got.contains(e, "1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := e.bus.Close(); err != nil {
				e.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	sub.Close()
	if err := e.bus.Publish(e.ctx, bus.Message{Subject: e.on("gone")}); !errors.Is(err, bus.ErrClosed) {
		e.Errorf("publish: %v", err)
	}
	if _, err := e.request("gone", ""); !errors.Is(err, bus.ErrClosed) {
		e.Errorf("request: %v", err)
	}
	if _, err := e.bus.Subscribe(e.on("gone"), bus.SubscribeOptions{}, got.data); !errors.Is(err, bus.ErrClosed) {
		e.Errorf("subscribe: %v", err)
	}
	if entries, _ := got.now(); len(entries) != 1 {
		e.Errorf("got %q", entries)
	}
}

// closeWaits: Close ends the context of the handlers at work, drops what waits, and returns only when no handler runs: not even one
// whose subscription was closed before.
func closeWaits(e *env) {
	left := newGate() // of a subscription that is closed before the bus
	early := e.subscribe("busy", bus.SubscribeOptions{}, left.handle)
	open := newLog()
	begun, ended, release := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	e.subscribe("busy", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		begun <- struct{}{}
		<-ctx.Done()
		close(ended)
		<-release
		open.data(ctx, m)
	})
	for _, data := range []string{"1", "2", "3"} {
		e.publish("busy", data)
	}
	await(e, begun, "a handler")
	await(e, left.begun, "another handler")
	early.Close()
	done := make(chan error, 1)
	go func() { done <- e.bus.Close() }()
	await(e, ended, "the end of the handler's context")
	never(e, done, "Close returned while two handlers run")
	close(release)
	open.contains(e, "1")
	never(e, done, "Close returned while a handler of a closed subscription runs")
	close(left.release)
	if err := await(e, done, "Close"); err != nil {
		e.Error(err)
	}
	for name, l := range map[string]*log{"open": open, "closed": left.log} {
		if got, _ := l.now(); len(got) != 1 {
			e.Errorf("the %s subscription got %q", name, got)
		}
	}
}

func closeEndsRequests(e *env) {
	asked := make(chan struct{}, 10)
	e.subscribe("silent", bus.SubscribeOptions{}, func(context.Context, bus.Message) { asked <- struct{}{} })
	failed := make(chan error, 3)
	for range cap(failed) {
		go func() { _, err := e.request("silent", ""); failed <- err }()
	}
	for range cap(failed) {
		await(e, asked, "a request")
	}
	if err := e.bus.Close(); err != nil {
		e.Error(err)
	}
	for range cap(failed) {
		if err := await(e, failed, "the end of a request"); !errors.Is(err, bus.ErrClosed) {
			e.Errorf("got %v", err)
		}
	}
}
