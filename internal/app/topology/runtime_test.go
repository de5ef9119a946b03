package topology_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/app/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal notes what happens to several modules in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

type module struct {
	name    string
	j       *journal
	onStart func(ctx context.Context) error
	onStop  func(ctx context.Context) error
	onReady func(ctx context.Context) error
	done    chan error
}

func (m *module) Name() string       { return m.name }
func (m *module) Done() <-chan error { return m.done }

func (m *module) Start(ctx context.Context) error {
	m.j.note("start " + m.name)
	return call(ctx, m.onStart)
}

func (m *module) Stop(ctx context.Context) error {
	m.j.note("stop " + m.name)
	return call(ctx, m.onStop)
}
func (m *module) Ready(ctx context.Context) error { return call(ctx, m.onReady) }

func call(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return nil
	}
	return f(ctx)
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// chain makes a, b, c, where each needs the one before it.
func chain(t *testing.T, opts topology.Options, change func(a, b, c *module)) (*topology.Runtime, *journal) {
	t.Helper()
	j := &journal{}
	ms := []*module{}
	var nodes []topology.Node
	for i, name := range []string{"a", "b", "c"} {
		ms = append(ms, &module{name: name, j: j, done: make(chan error, 1)})
		n := topology.Node{Name: name, Enabled: true}
		if i > 0 {
			n.Needs = []string{ms[i-1].name}
		}
		nodes = append(nodes, n)
	}
	if change != nil {
		change(ms[0], ms[1], ms[2])
	}
	g, err := topology.Resolve(nodes)
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := topology.New(g, []topology.Module{ms[2], ms[0], ms[1]}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r, j
}

func TestRunStartsInOrderAndStopsInReverse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var told []string
	r, j := chain(t, topology.Options{
		OnRunning:  func() { told = append(told, "running"); cancel() },
		OnStopping: func(cause error) { told = append(told, fmt.Sprint("stopping ", cause)) },
	}, nil)
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"running", "stopping <nil>"}, told); diff != "" {
		t.Error(diff)
	}
}

func TestFailingStartStopsThoseStarted(t *testing.T) {
	broken := errors.New("no disk")
	r, j := chain(t, topology.Options{}, func(_, b, _ *module) {
		b.onStart = func(context.Context) error { return broken }
	})
	err := r.Start(t.Context())
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "start module b: no disk") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "stop b", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
	if err := r.Start(t.Context()); err == nil {
		t.Error("a spent runtime started again")
	}
}

func TestStartDeadline(t *testing.T) {
	r, j := chain(t, topology.Options{StartTimeout: 20 * time.Millisecond}, func(a, _, _ *module) { a.onStart = hang })
	if err := r.Start(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestStopDeadlineDoesNotKeepOthersFromStopping(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	broken := errors.New("still busy")
	r, j := chain(t, topology.Options{StopTimeout: 20 * time.Millisecond}, func(a, b, _ *module) {
		b.onStop = func(context.Context) error { <-release; return nil } // does not even look at its context
		a.onStop = func(context.Context) error { return broken }
	})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := r.Stop(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, broken) || !strings.Contains(err.Error(), "stop module b") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestFailureAfterStartEndsTheRun(t *testing.T) {
	for name, fail := range map[string]func(*module){
		"error":  func(m *module) { m.done <- errors.New("lost the hypervisor") },
		"closed": func(m *module) { close(m.done) },
	} {
		t.Run(name, func(t *testing.T) {
			var failing *module
			var cause error
			r, j := chain(t, topology.Options{
				OnRunning:  func() { fail(failing) },
				OnStopping: func(err error) { cause = err },
			}, func(_, b, _ *module) { failing = b })
			err := r.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), "module b failed") || cause == nil {
				t.Errorf("got %v, told %v", err, cause)
			}
			if got := j.read(); len(got) != 6 {
				t.Errorf("not all were stopped: %v", got)
			}
		})
	}
}

func TestFailureWhileAnotherStartsEndsTheStart(t *testing.T) {
	r, j := chain(t, topology.Options{}, func(a, b, _ *module) {
		b.onStart = func(ctx context.Context) error {
			a.done <- errors.New("lost the database")
			return hang(ctx)
		}
	})
	err := r.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "module a failed: lost the database") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "stop b", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestStopWhileStarting(t *testing.T) {
	entered := make(chan struct{})
	r, j := chain(t, topology.Options{}, func(_, b, _ *module) {
		b.onStart = func(ctx context.Context) error { close(entered); return hang(ctx) }
	})
	started := make(chan error, 1)
	go func() { started <- r.Start(t.Context()) }()
	<-entered
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Errorf("Start answered %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "stop b", "stop a"}, j.read()); diff != "" {
		t.Error(diff)
	}
}

func TestStopWithoutStart(t *testing.T) {
	r, j := chain(t, topology.Options{}, nil)
	for range 2 {
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := j.read(); len(got) != 0 {
		t.Errorf("touched modules: %v", got)
	}
	if err := r.Start(t.Context()); err == nil {
		t.Error("started after Stop")
	}
}

func TestReadiness(t *testing.T) {
	away := errors.New("database away")
	entered, proceed := make(chan struct{}), make(chan struct{})
	r, _ := chain(t, topology.Options{ReadyTimeout: 20 * time.Millisecond}, func(a, b, c *module) {
		a.onReady = func(context.Context) error { return away }
		b.onReady = hang
		c.onStart = func(context.Context) error { close(entered); <-proceed; return nil }
	})
	check := func(when string, want map[string]error) {
		t.Helper()
		got := r.Readiness(t.Context())
		for name, err := range want {
			if !errors.Is(got[name], err) || (err == nil) != (got[name] == nil) {
				t.Errorf("%s: %s is %v, want %v", when, name, got[name], err)
			}
		}
		if len(got) != 3 {
			t.Errorf("%s: %d modules", when, len(got))
		}
	}
	check("new", map[string]error{"a": topology.ErrNotStarted, "b": topology.ErrNotStarted, "c": topology.ErrNotStarted})
	started := make(chan error, 1)
	go func() { started <- r.Start(t.Context()) }()
	<-entered
	check("starting", map[string]error{"a": away, "b": topology.ErrNoAnswer, "c": topology.ErrNotStarted})
	close(proceed)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	check("running", map[string]error{"a": away, "b": topology.ErrNoAnswer, "c": nil})
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("stopped", map[string]error{"a": topology.ErrStopping, "b": topology.ErrStopping, "c": topology.ErrStopping})
}

func TestNewRefusesModulesThatDoNotFitTheGraph(t *testing.T) {
	g, err := topology.Resolve([]topology.Node{{Name: "a", Enabled: true}, {Name: "b", Remote: "x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	a, b := &module{name: "a"}, &module{name: "b"}
	for name, list := range map[string][]topology.Module{"missing": {}, "twice": {a, a}, "not enabled": {a, b}} {
		if _, err := topology.New(g, list, topology.Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestStress calls everything at once, in every order, and expects that each module is stopped as often as it was started.
func TestStress(t *testing.T) {
	for i := range 200 {
		r, j := chain(t, topology.Options{}, func(a, b, _ *module) {
			switch i % 4 {
			case 1:
				b.onStart = func(context.Context) error { return errors.New("broken") }
			case 2:
				a.done <- errors.New("failed at once")
			case 3:
				b.onStart = hang
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = r.Run(ctx) }) // which error it is depends on who comes first
		for range 3 {
			all.Go(func() { r.Readiness(ctx) })
		}
		if i%2 == 1 {
			all.Go(func() { _ = r.Stop(ctx) })
		}
		all.Go(cancel)
		all.Wait()
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		count := map[string]int{}
		for _, line := range j.read() {
			verb, name, _ := strings.Cut(line, " ")
			if verb == "start" {
				count[name]++
			} else {
				count[name]--
			}
		}
		for name, n := range count {
			if n != 0 {
				t.Fatalf("round %d: module %s is off by %d: %v", i, name, n, j.read())
			}
		}
	}
}
