package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Module is what the runtime runs. The context of Start bounds the start only; what a module leaves running must not depend on it.
// Start returns when the module is ready to be used. Both Start and Stop are idempotent.
type Module interface {
	Name() string
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	// Ready tells why the module cannot work right now, or nil.
	Ready(ctx context.Context) error
}

// Failing is a Module that can fail after it was started. One value on the channel, or its closing before Stop, ends the run.
type Failing interface {
	Done() <-chan error
}

// Options change how modules are run. The zero value is good.
type Options struct {
	StartTimeout time.Duration // for each module; 0 means 2 minutes
	StopTimeout  time.Duration // for each module; 0 means 30 seconds
	ReadyTimeout time.Duration // for each question whether a module is ready; 0 means 3 seconds
	Log          *slog.Logger  // nil: slog.Default
	// OnRunning is called by Run when every module has started. May be nil.
	OnRunning func()
	// OnStopping is called by Run before the first module is stopped, with what ended the run; nil for an ordinary end. May be nil.
	OnStopping func(cause error)
}

// What Readiness answers for a module that was not asked, or that did not answer.
var (
	ErrNotStarted = errs.New(errs.Unavailable, "module.not_started", "the module has not started yet")
	ErrStopping   = errs.New(errs.Unavailable, "module.stopping", "the module is stopping")
	ErrNoAnswer   = errs.New(errs.Deadline, "module.no_answer", "the module did not say in time whether it can work")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrNotStarted, ErrStopping, ErrNoAnswer} }

type state int

const (
	stateNew state = iota
	stateStarting
	stateRunning
	stateStopping
	stateStopped
)

// Runtime runs the modules of a Graph. It is safe for concurrent use.
type Runtime struct {
	opts    Options
	modules []Module // in the order of their start

	failed chan error    // holds the first failure of a started module
	ended  chan struct{} // closed when the watchers shall end
	watch  sync.WaitGroup

	mu      sync.Mutex // guards what follows; never held while a module is called
	state   state
	started int                // how many of modules are started, or about to be
	cancel  context.CancelFunc // ends a Start that runs
	settled chan struct{}      // closed when a Start that ran has returned
	stopped chan struct{}      // closed when stateStopped is reached
	stopErr error              // valid once stopped is closed
}

// New takes the enabled modules of the graph, each exactly once and in any order.
func New(g *Graph, modules []Module, opts Options) (*Runtime, error) {
	if opts.StartTimeout == 0 {
		opts.StartTimeout = 2 * time.Minute
	}
	if opts.StopTimeout == 0 {
		opts.StopTimeout = 30 * time.Second
	}
	if opts.ReadyTimeout == 0 {
		opts.ReadyTimeout = 3 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	byName := make(map[string]Module, len(modules))
	for _, m := range modules {
		if _, twice := byName[m.Name()]; twice {
			return nil, fmt.Errorf("module %s was given twice", m.Name())
		}
		if g.Place(m.Name()) != Local {
			return nil, fmt.Errorf("module %s was built, but is not enabled", m.Name())
		}
		byName[m.Name()] = m
	}
	r := &Runtime{opts: opts, failed: make(chan error, 1), ended: make(chan struct{}), stopped: make(chan struct{})}
	for _, name := range g.Order() {
		m, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("module %s is enabled, but was not built", name)
		}
		r.modules = append(r.modules, m)
	}
	return r, nil
}

// Start starts the modules one after the other. When one of them fails, or one that has started ends, or ctx does, those that were
// started are stopped again and the Runtime is spent. A second Start of a running Runtime does nothing.
func (r *Runtime) Start(ctx context.Context) error {
	r.mu.Lock()
	switch r.state {
	case stateRunning:
		r.mu.Unlock()
		return nil
	case stateNew:
	default:
		r.mu.Unlock()
		return errors.New("the modules were started before")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.state, r.cancel, r.settled = stateStarting, cancel, make(chan struct{})
	r.mu.Unlock()

	err := r.startAll(ctx)
	r.mu.Lock()
	close(r.settled)
	switch {
	case r.state != stateStarting: // Stop came meanwhile and waits to clean up
		r.mu.Unlock()
		<-r.stopped
		return errors.Join(errors.New("stopped while starting"), err, r.stopErr)
	case err == nil:
		r.state = stateRunning
		r.mu.Unlock()
		return nil
	default:
		r.mu.Unlock()
		return errors.Join(err, r.Stop(context.WithoutCancel(ctx)))
	}
}

func (r *Runtime) startAll(ctx context.Context) error {
	for i, m := range r.modules {
		select {
		case err := <-r.failed:
			return err
		default:
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("start modules: %w", err)
		}
		r.mu.Lock()
		r.started = i + 1 // also one whose start fails is stopped, so that what it did up to there is undone
		r.mu.Unlock()
		began := time.Now()
		if err := r.startOne(ctx, m); err != nil {
			err = fmt.Errorf("start module %s: %w", m.Name(), err)
			select {
			case first := <-r.failed: // which is why ctx ended
				return errors.Join(first, err)
			default:
				return err
			}
		}
		r.opts.Log.InfoContext(ctx, "module started", "module", m.Name(), "took", time.Since(began))
		r.watchOne(m)
	}
	select {
	case err := <-r.failed:
		return err
	default:
		return nil
	}
}

func (r *Runtime) startOne(ctx context.Context, m Module) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.StartTimeout)
	defer cancel()
	return within(ctx, m.Start)
}

// watchOne notes the failure of a module that can fail. Its goroutine ends with the Runtime.
func (r *Runtime) watchOne(m Module) {
	f, ok := m.(Failing)
	if !ok {
		return
	}
	done := f.Done()
	r.watch.Go(func() {
		select {
		case <-r.ended:
		case err, open := <-done:
			if err == nil && !open {
				err = errors.New("ended by itself")
			}
			if err == nil {
				return
			}
			select {
			case r.failed <- fmt.Errorf("module %s failed: %w", m.Name(), err):
				r.mu.Lock()
				r.cancel() // where Start still runs there is no use in going on
				r.mu.Unlock()
			default: // an earlier failure has ended the run already
			}
		}
	})
}

// Failed gives the first failure of a module that was started. It is sent at most once.
func (r *Runtime) Failed() <-chan error { return r.failed }

// Stop stops the modules in the reverse order, each with a deadline of its own; when ctx ends the remaining ones are told so, but are
// still called. It answers the errors of all of them. Every call waits until the modules are stopped.
func (r *Runtime) Stop(ctx context.Context) error {
	r.mu.Lock()
	switch r.state {
	case stateStopping, stateStopped:
		r.mu.Unlock()
		<-r.stopped
		return r.stopErr
	case stateStarting:
		r.cancel()
	}
	r.state = stateStopping
	settled := r.settled
	r.mu.Unlock()
	if settled != nil {
		<-settled
	}

	close(r.ended)
	var failed []error
	for i := r.startedCount() - 1; i >= 0; i-- {
		m := r.modules[i]
		began := time.Now()
		if err := r.stopOne(ctx, m); err != nil {
			failed = append(failed, fmt.Errorf("stop module %s: %w", m.Name(), err))
			continue
		}
		r.opts.Log.InfoContext(ctx, "module stopped", "module", m.Name(), "took", time.Since(began))
	}
	r.watch.Wait()
	r.mu.Lock()
	r.state, r.stopErr = stateStopped, errors.Join(failed...)
	r.mu.Unlock()
	close(r.stopped)
	return r.stopErr
}

func (r *Runtime) startedCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started
}

func (r *Runtime) stopOne(ctx context.Context, m Module) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.StopTimeout)
	defer cancel()
	return within(ctx, m.Stop)
}

// Run starts the modules, waits until ctx ends or a module fails, and stops them. It answers what went wrong, so nil after an
// ordinary end.
func (r *Runtime) Run(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	if r.opts.OnRunning != nil {
		r.opts.OnRunning()
	}
	var cause error
	select {
	case <-ctx.Done():
	case cause = <-r.failed:
		r.opts.Log.ErrorContext(ctx, "a module failed, the others are stopped", "error", cause)
	}
	if r.opts.OnStopping != nil {
		r.opts.OnStopping(cause)
	}
	return errors.Join(cause, r.Stop(context.WithoutCancel(ctx)))
}

// Readiness asks every enabled module at once whether it can work. A module that gives no answer in time is not ready.
func (r *Runtime) Readiness(ctx context.Context) map[string]error {
	r.mu.Lock()
	current, started := r.state, r.started
	r.mu.Unlock()
	answers := make([]error, len(r.modules))
	var asked sync.WaitGroup
	for i, m := range r.modules {
		switch {
		case current >= stateStopping:
			answers[i] = ErrStopping
		case i >= started || (current == stateStarting && i == started-1):
			answers[i] = ErrNotStarted
		default:
			asked.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, r.opts.ReadyTimeout)
				defer cancel()
				err := within(ctx, m.Ready)
				if err != nil && ctx.Err() != nil {
					err = ErrNoAnswer.Wrap(err)
				}
				answers[i] = err
			})
		}
	}
	asked.Wait()
	all := make(map[string]error, len(r.modules))
	for i, m := range r.modules {
		all[m.Name()] = answers[i]
	}
	return all
}

// within calls f and waits for it no longer than ctx lasts. A call that outlives its deadline goes on alone; there is no way to end it.
func within(ctx context.Context, f func(context.Context) error) error {
	result := make(chan error, 1)
	go func() { result <- f(ctx) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	// It may have noticed the end of ctx itself, and then has more to say.
	grace := time.NewTimer(100 * time.Millisecond)
	defer grace.Stop()
	select {
	case err := <-result:
		return err
	case <-grace.C:
		return fmt.Errorf("no answer in time: %w", ctx.Err())
	}
}
