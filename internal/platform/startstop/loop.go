// Package startstop runs background work that has a clear owner: whoever starts a loop stops it, and stopping waits.
package startstop

import (
	"context"
	"sync"
	"time"
)

// Loop calls a function regularly until it is stopped. It is safe for concurrent use.
type Loop struct {
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{}
	once   sync.Once
}

// Every calls work at once and then at every interval, one call at a time, until Stop. The context of a call ends with the loop.
func Every(interval time.Duration, work func(context.Context)) *Loop {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Loop{cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1)}
	go func() { // ended by Stop
		defer close(l.done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			work(ctx)
			select {
			case <-ctx.Done():
			case <-ticker.C:
			case <-l.kick:
			}
		}
	}()
	return l
}

// Kick has work called soon, without waiting for the interval. Kicks that come while one is pending are one.
func (l *Loop) Kick() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Stop ends the loop and waits for a call that is running, whose context it ends. It is idempotent; on nil it does nothing.
func (l *Loop) Stop() {
	if l == nil {
		return
	}
	l.once.Do(l.cancel)
	<-l.done
}
