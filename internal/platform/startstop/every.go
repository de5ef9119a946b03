package startstop

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Every starts the loop as a periodic one and tells whether it did, by the rules of Start: work is called at once and then at every
// interval, counted from the beginning of a call to the beginning of the next, one call at a time. Up to jitter is added to each
// interval at random, so that many processes do not all work at the same moment; 0 adds nothing. Kick calls work sooner.
//
// A call that panics is logged with its stack and the loop goes on: one bad row must not end a sweeper for ever. An interval that is not
// positive, or a negative jitter, is a programming error and panics.
func (l *Loop) Every(ctx context.Context, interval, jitter time.Duration, work func(context.Context)) bool {
	if interval <= 0 || jitter < 0 {
		panic(fmt.Sprintf("startstop: interval %v with jitter %v", interval, jitter))
	}
	return l.start(ctx, func(ctx context.Context, r *run) error {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C:
			case <-r.kick:
			}
			if err := ctx.Err(); err != nil { // select picks at random among what is ready
				return err
			}
			begun := time.Now()
			protect(ctx, work)
			wait := interval - time.Since(begun)
			if jitter > 0 {
				wait += rand.N(jitter)
			}
			timer.Reset(wait)
		}
	})
}

func protect(ctx context.Context, work func(context.Context)) {
	defer func() {
		if p := recover(); p != nil {
			slog.ErrorContext(ctx, "periodic work panicked; it is called again at its next time", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	work(ctx)
}

// Kick has the work of a periodic loop called soon, without waiting for the interval. A kick during a call makes one more call after
// it; kicks that come while one is pending are one. Where nothing runs it does nothing.
func (l *Loop) Kick() {
	if l == nil {
		return
	}
	l.mu.Lock()
	r := l.run
	l.mu.Unlock()
	if r == nil {
		return
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Every makes a periodic loop that lives until Stop: Loop.Every without jitter and without a context that could end it.
func Every(interval time.Duration, work func(context.Context)) *Loop {
	l := new(Loop)
	l.Every(context.Background(), interval, 0, work)
	return l
}
