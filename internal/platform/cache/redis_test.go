package cache

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/cache/redistest"
)

func TestRedis(t *testing.T) {
	c, err := newRedis(redistest.Start(t).URL(), patience, patience) // a busy machine is not what the suite is about
	must(t, err)
	suite(t, c)
}

func BenchmarkRedis(b *testing.B) { benchmark(b, openRedis(b, redistest.Start(b).URL())) }

func openRedis(t testing.TB, url string) *Redis {
	t.Helper()
	r, err := NewRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unavailableQuickly calls every method on a server that does not answer.
func unavailableQuickly(t *testing.T, r *Redis) {
	t.Helper()
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"get":       func() error { _, _, err := r.Get(ctx, "k"); return err },
		"set":       func() error { return r.Set(ctx, "k", nil, time.Minute) },
		"add":       func() error { _, err := r.Add(ctx, "k", nil, time.Minute); return err },
		"incr":      func() error { _, err := r.Incr(ctx, "k", 2, time.Minute); return err },
		"increment": func() error { _, err := r.Increment(ctx, "k", time.Minute); return err },
		"delete":    func() error { return r.Delete(ctx, "k") },
		"set newer": func() error { return r.SetNewer(ctx, time.Minute, Versioned{Key: "k", Version: 1}) },
		"versions":  func() error { _, err := r.GetVersioned(ctx, "k"); return err },
		"allow":     func() error { _, err := r.Allow(ctx, "k", Limit{Rate: 1, Per: time.Second, Burst: 1}); return err },
	} {
		begun := time.Now()
		if err := call(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 5*time.Second { // about half a second on an idle machine
			t.Errorf("%s took %v to fail", name, took)
		}
	}
}

func TestRedisAwayAndBack(t *testing.T) {
	s := redistest.Start(t)
	r := openRedis(t, s.URL())
	defer r.Close()
	must(t, r.Set(t.Context(), "k", []byte("v"), time.Minute))
	s.Kill()
	unavailableQuickly(t, r)
	s.Restart()
	poll(t, "the server that came back", func() bool {
		d, err := r.Allow(t.Context(), "l", Limit{Rate: 1, Per: time.Hour, Burst: 1}) // the server has forgotten the script, too
		return err == nil && d.Allowed
	})
	if _, ok, err := r.Get(t.Context(), "k"); ok || err != nil {
		t.Errorf("got %v %v", ok, err)
	}
}

// A server that is away costs the first callers the time of a connection, and the others nothing.
func TestRedisAwayIsToldAtOnce(t *testing.T) {
	s := redistest.Start(t)
	r := openRedis(t, s.URL())
	defer r.Close()
	must(t, r.Set(t.Context(), "k", []byte("v"), time.Minute))
	must(t, s.Signal(syscall.SIGSTOP)) // it hangs: each call waits for half a second
	defer func() { _ = s.Signal(syscall.SIGCONT) }()
	begun := time.Now()
	const calls = 50
	for range calls {
		if _, _, err := r.Get(t.Context(), "k"); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > calls*redisCallTimeout/2 {
		t.Errorf("%d calls took %v", calls, took)
	}
	must(t, s.Signal(syscall.SIGCONT))
	poll(t, "the server to be used again", func() bool {
		_, ok, err := r.Get(t.Context(), "k")
		return ok && err == nil
	})
}

// A connection that was open when the server restarted must not fail the next call.
func TestRedisRestartBetweenCalls(t *testing.T) {
	s := redistest.Start(t)
	r := openRedis(t, s.URL())
	defer r.Close()
	must(t, r.Set(t.Context(), "k", []byte("v"), time.Minute))
	s.Kill()
	s.Restart()
	if err := r.Set(t.Context(), "k", []byte("v"), time.Minute); err != nil {
		t.Errorf("the first call after a restart: %v", err)
	}
}

func TestRedisThatHangs(t *testing.T) {
	s := redistest.Start(t)
	r := openRedis(t, s.URL())
	defer r.Close()
	must(t, r.Set(t.Context(), "k", []byte("v"), time.Minute))
	must(t, s.Signal(syscall.SIGSTOP))
	unavailableQuickly(t, r)
	must(t, s.Signal(syscall.SIGCONT))
	poll(t, "the server to go on", func() bool {
		_, _, err := r.Get(t.Context(), "k")
		return err == nil
	})
}

func TestRedisCallEndsWithItsContext(t *testing.T) {
	s := redistest.Start(t)
	r := openRedis(t, s.URL())
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Get(ctx, "k"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNewRedisRefusesWhatIsNoURL(t *testing.T) {
	for _, url := range []string{"", "localhost:6379", "http://localhost", "redis://localhost/not-a-number"} {
		if r, err := NewRedis(url); err == nil {
			r.Close()
			t.Errorf("%q was accepted", url)
		}
	}
}
