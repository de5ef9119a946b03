package startstop

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func untilStopped(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestStopWithoutStartAndOnNil(t *testing.T) {
	var l Loop
	l.Stop()
	l.Stop()
	l.Kick()
	<-l.Done()
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	(*Loop)(nil).Stop()
	(*Loop)(nil).Kick()
}

func TestStartIsIdempotentAndRestarts(t *testing.T) {
	var l Loop
	for range 3 {
		if !l.Start(t.Context(), untilStopped) {
			t.Fatal("a loop that does not run was not started")
		}
		if l.Start(t.Context(), func(context.Context) error { t.Error("a second run began"); return nil }) {
			t.Fatal("a loop that runs was started again")
		}
		select {
		case <-l.Done():
			t.Fatal("done while it runs")
		default:
		}
		l.Stop()
		l.Stop()
		<-l.Done()
		if err := l.Err(); err != nil {
			t.Errorf("stopped, but failed: %v", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if l.Start(ended, untilStopped) {
		t.Error("started with a context that has ended")
	}
}

func TestLoopEndsWithItsContextAndByItself(t *testing.T) {
	var l Loop
	ctx, cancel := context.WithCancel(t.Context())
	l.Start(ctx, untilStopped)
	cancel()
	if !l.Start(t.Context(), untilStopped) {
		t.Error("not started at once after the context of the run before had ended")
	}
	l.Stop()
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if !l.Start(t.Context(), func(context.Context) error { return broken }) {
		t.Fatal("not restarted after its context ended")
	}
	<-l.Done()
	if err := l.Err(); err != broken {
		t.Errorf("got %v", err)
	}
	l.Stop()
	// An error of the work counts even if it was stopped as well.
	l.Start(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return broken })
	l.Stop()
	if err := l.Err(); err != broken {
		t.Errorf("got %v", err)
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	var l Loop
	cause := errors.New("cause")
	l.Start(t.Context(), func(context.Context) error { panic(cause) })
	<-l.Done()
	var p *PanicError
	if err := l.Err(); !errors.As(err, &p) || !errors.Is(err, cause) || !strings.Contains(string(p.Stack), "TestPanicsBecomeErrors") {
		t.Errorf("got %v", err)
	}
	l.Start(t.Context(), func(context.Context) error { panic("text") })
	<-l.Done()
	if err := l.Err(); err == nil || !strings.Contains(err.Error(), "text") || errors.Unwrap(err) != nil {
		t.Errorf("got %v", err)
	}
	l.Start(t.Context(), func(context.Context) error { runtime.Goexit(); return nil })
	<-l.Done()
	if err := l.Err(); err != errExited {
		t.Errorf("got %v", err)
	}
	if !l.Start(t.Context(), untilStopped) {
		t.Error("not restarted after a panic")
	}
	l.Stop()
}

func TestStartWaitsForTheEndOfAStoppingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Loop
		release := make(chan struct{})
		l.Start(t.Context(), func(ctx context.Context) error { <-ctx.Done(); <-release; return nil })
		go l.Stop()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if l.Start(short, untilStopped) {
			t.Error("two runs at once")
		}
		if short.Err() == nil {
			t.Error("Start gave up before its context did")
		}
		started := make(chan bool)
		go func() { started <- l.Start(t.Context(), untilStopped) }()
		synctest.Wait()
		close(release)
		if !<-started {
			t.Error("not started after the stop")
		}
		l.Stop()
	})
}

// Many goroutines start, stop, kick and watch one loop at random. Runs must never overlap, and the last Stop must leave nothing.
func TestStress(t *testing.T) {
	var l Loop
	var running, runs atomic.Int32
	enter := func() func() {
		if n := running.Add(1); n != 1 {
			t.Errorf("%d runs at once", n)
		}
		runs.Add(1)
		return func() { running.Add(-1) }
	}
	works := []func(context.Context) error{
		func(ctx context.Context) error { defer enter()(); return untilStopped(ctx) },
		func(context.Context) error { defer enter()(); return nil },
		func(context.Context) error { defer enter()(); panic("stress") },
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				switch rand.IntN(8) {
				case 0, 1:
					l.Start(t.Context(), works[rand.IntN(len(works))])
				case 2:
					l.Every(t.Context(), time.Hour, time.Minute, func(context.Context) { enter()() })
				case 3:
					ctx, cancel := context.WithCancel(t.Context())
					l.Start(ctx, works[0])
					cancel()
				case 4:
					l.Kick()
				case 5:
					_ = l.Err()
				case 6:
					_ = l.Done()
				default:
					l.Stop()
				}
			}
		})
	}
	wg.Wait()
	l.Stop()
	<-l.Done()
	if running.Load() != 0 || runs.Load() == 0 {
		t.Errorf("%d running after Stop, %d runs", running.Load(), runs.Load())
	}
}
