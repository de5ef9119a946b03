package schedulermodule

import (
	"context"
	"time"
)

// loop calls a function at once and then regularly, until it is stopped.
type loop struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func every(interval time.Duration, work func(context.Context)) *loop {
	ctx, cancel := context.WithCancel(context.Background())
	l := &loop{cancel: cancel, done: make(chan struct{})}
	go func() { // ended by stop
		defer close(l.done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			work(ctx)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return l
}

// stop ends the loop and waits for a call that is running, whose context it ends.
func (l *loop) stop() {
	l.cancel()
	<-l.done
}
