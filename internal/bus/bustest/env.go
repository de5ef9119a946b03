package bustest

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/bus"
)

// patience is how long anything may take that must happen: much longer than it does, so that a slow machine is no failure.
const patience = 30 * time.Second

// env is what one test works with.
type env struct {
	*testing.T
	bus    bus.Bus
	prefix string
	ctx    context.Context // ends with patience
}

func newEnv(t *testing.T, b bus.Bus) *env {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return &env{T: t, bus: b, prefix: "bustest-" + rand.Text(), ctx: ctx}
}

// on gives a subject of this test's own.
func (e *env) on(subject string) string { return e.prefix + "." + subject }

func (e *env) publish(subject, data string) {
	e.Helper()
	if err := e.bus.Publish(e.ctx, bus.Message{Subject: e.on(subject), Data: []byte(data)}); err != nil {
		e.Fatalf("publish on %s: %v", subject, err)
	}
}

func (e *env) subscribe(pattern string, opts bus.SubscribeOptions, h bus.Handler) bus.Subscription {
	e.Helper()
	s, err := e.bus.Subscribe(e.on(pattern), opts, h)
	if err != nil {
		e.Fatalf("subscribe to %s: %v", pattern, err)
	}
	return s
}

// await fails the test unless c gives or ends in time.
func await[T any](e *env, c <-chan T, what string) T {
	e.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		e.Fatalf("waited in vain for %s", what)
		panic("not reached")
	}
}

// never fails the test if c has something to give already.
func never[T any](e *env, c <-chan T, what string) {
	e.Helper()
	select {
	case <-c:
		e.Errorf("%s", what)
	default:
	}
}

// log collects what happens, from any goroutine.
type log struct {
	mu      sync.Mutex
	entries []string
	changed chan struct{} // closed and replaced by every add
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) add(entry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) now() ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries), l.changed
}

// until waits for the log to be as wanted, and gives it.
func (l *log) until(e *env, what string, wanted func([]string) bool) []string {
	e.Helper()
	timeout := time.After(patience)
	for {
		entries, changed := l.now()
		if wanted(entries) {
			return entries
		}
		select {
		case <-changed:
		case <-timeout:
			e.Fatalf("waited in vain for %s; there are %d entries, the last are %q", what, len(entries), entries[max(0, len(entries)-10):])
		}
	}
}

func (l *log) count(e *env, n int, what string) []string {
	e.Helper()
	return l.until(e, what, func(entries []string) bool { return len(entries) >= n })
}

func (l *log) contains(e *env, entry string) []string {
	e.Helper()
	return l.until(e, entry, func(entries []string) bool { return slices.Contains(entries, entry) })
}

// data is a handler that logs payloads.
func (l *log) data(_ context.Context, m bus.Message) { l.add(string(m.Data)) }

// gate is a handler that begins and then stays until it is let through.
type gate struct {
	*log
	begun    chan struct{} // an element for every call that begins
	release  chan struct{} // closed when all calls may end
	contexts chan context.Context
}

func newGate() *gate {
	return &gate{log: newLog(), begun: make(chan struct{}, 100_000), release: make(chan struct{}), contexts: make(chan context.Context, 100_000)}
}

func (g *gate) handle(ctx context.Context, m bus.Message) {
	g.contexts <- ctx
	g.begun <- struct{}{}
	<-g.release
	g.add(string(m.Data))
}
