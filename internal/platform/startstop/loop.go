package startstop

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Loop is background work in one goroutine. The zero value is ready to Start; a Loop must not be copied. On a nil Loop, Stop and Kick
// do nothing, so that an owner may stop what it never made.
type Loop struct {
	mu  sync.Mutex // guards run
	run *run       // the current run, or the last one; nil before the first
}

// run is the time between one start and its end.
type run struct {
	ctx    context.Context // of the work
	cancel context.CancelFunc
	kick   chan struct{}
	done   chan struct{} // closed after err is set
	err    error
}

func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Start runs work in a goroutine and tells whether it did: not when the loop runs already, and not when ctx has ended. The context of
// the work ends with ctx and with Stop, so ctx must live as long as the work shall: not the deadline of a start-up. While an earlier
// run is on its way out, Start waits for its end.
func (l *Loop) Start(ctx context.Context, work func(ctx context.Context) error) bool {
	return l.start(ctx, func(ctx context.Context, _ *run) error { return work(ctx) })
}

func (l *Loop) start(ctx context.Context, work func(context.Context, *run) error) bool {
	for ctx.Err() == nil {
		inner, cancel := context.WithCancel(ctx)
		l.mu.Lock()
		previous := l.run
		if previous == nil || previous.ended() {
			r := &run{ctx: inner, cancel: cancel, kick: make(chan struct{}, 1), done: make(chan struct{})}
			l.run = r
			l.mu.Unlock()
			go r.do(work) // ended by Stop or ctx
			return true
		}
		l.mu.Unlock()
		cancel()
		if previous.ctx.Err() == nil {
			return false
		}
		select {
		case <-previous.done:
		case <-ctx.Done():
		}
	}
	return false
}

// do is the goroutine of a run.
func (r *run) do(work func(context.Context, *run) error) {
	err := errExited // stays if work leaves by runtime.Goexit, which no recover sees
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		// To end because it was told to is no failure.
		if ended := r.ctx.Err(); ended == nil || !errors.Is(err, ended) {
			r.err = err
		}
		close(r.done)
		r.cancel()
	}()
	err = work(r.ctx, r)
}

// Stop ends the context of the work and waits for the work to return. It must not be called by the work itself, which may just
// return. Where nothing runs it does nothing.
func (l *Loop) Stop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	r := l.run
	l.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// Done is closed when the run that is current at the time of the call has ended, and closed already where nothing runs.
func (l *Loop) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil {
		never := make(chan struct{})
		close(never)
		return never
	}
	return l.run.done
}

// Err tells why the last run ended: the error of the work, or a *PanicError. It is nil while the loop runs, and after a run that ended
// without an error or because it was stopped.
func (l *Loop) Err() error {
	l.mu.Lock()
	r := l.run
	l.mu.Unlock()
	if r == nil || !r.ended() {
		return nil
	}
	return r.err
}

// PanicError is a panic of background work.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked, for the log
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("background work panicked: %v", e.Value) }

// Unwrap gives the value of the panic where it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited ends a run whose goroutine called runtime.Goexit.
var errExited = errors.New("background work left its goroutine without returning")
