package cache

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestMemory(t *testing.T) {
	suite(t, func(t *testing.T) Cache { return NewMemory(10_000) })
}

func TestRedis(t *testing.T) {
	url, _ := startRedis(t)
	suite(t, func(t *testing.T) Cache { return openRedis(t, url) })
}

func openRedis(t *testing.T, url string) *Redis {
	t.Helper()
	r, err := NewRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startRedis starts a server on a unix socket of the test's own.
func startRedis(t *testing.T) (url string, server *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	server = exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatalf("redis-server is needed for this test; it is in the package redis-server: %v", err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	url = "unix://" + socket
	r := openRedis(t, url)
	defer r.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		if _, _, err := r.Get(t.Context(), "x"); err == nil {
			return url, server
		} else if time.Now().After(deadline) {
			t.Fatalf("redis-server did not come up: %v", err)
		}
	}
}

func TestRedisAwayFailsQuicklyWithItsCode(t *testing.T) {
	url, server := startRedis(t)
	r := openRedis(t, url)
	defer r.Close()
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	for name, call := range map[string]func() error{
		"get":       func() error { _, _, err := r.Get(t.Context(), "k"); return err },
		"set":       func() error { return r.Set(t.Context(), "k", nil, time.Minute) },
		"add":       func() error { _, err := r.Add(t.Context(), "k", nil, time.Minute); return err },
		"increment": func() error { _, err := r.Increment(t.Context(), "k", time.Minute); return err },
		"delete":    func() error { return r.Delete(t.Context(), "k") },
		"allow": func() error {
			_, err := r.Allow(t.Context(), "k", Limit{Rate: 1, Per: time.Second, Burst: 1})
			return err
		},
	} {
		begun := time.Now()
		if err := call(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s took %v to fail", name, took)
		}
	}
}

func suite(t *testing.T, open func(t *testing.T) Cache) {
	ctx := context.Background()
	c := open(t)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// gone waits until a key has expired.
	gone := func(t *testing.T, key string) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
			_, ok, err := c.Get(ctx, key)
			must(t, err)
			if !ok {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s did not expire", key)
			}
		}
	}

	t.Run("set, get, delete", func(t *testing.T) {
		if _, ok, err := c.Get(ctx, "a"); ok || err != nil {
			t.Errorf("absent key: %v %v", ok, err)
		}
		value := []byte("one")
		must(t, c.Set(ctx, "a", value, time.Minute))
		value[0] = 'X'
		got, ok, err := c.Get(ctx, "a")
		if string(got) != "one" || !ok || err != nil {
			t.Errorf("got %q %v %v", got, ok, err)
		}
		got[0] = 'Y'
		if again, _, _ := c.Get(ctx, "a"); string(again) != "one" {
			t.Errorf("a reader changed the value to %q", again)
		}
		must(t, c.Delete(ctx, "a", "never there"))
		must(t, c.Delete(ctx))
		if _, ok, _ := c.Get(ctx, "a"); ok {
			t.Error("deleted key is there")
		}
	})
	t.Run("values expire", func(t *testing.T) {
		must(t, c.Set(ctx, "b", []byte("x"), 50*time.Millisecond))
		gone(t, "b")
	})
	t.Run("add is exclusive", func(t *testing.T) {
		var added atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				ok, err := c.Add(ctx, "c", []byte("x"), time.Minute)
				if err != nil {
					t.Error(err)
				}
				if ok {
					added.Add(1)
				}
			})
		}
		wg.Wait()
		if added.Load() != 1 {
			t.Errorf("%d callers added the key", added.Load())
		}
		must(t, c.Set(ctx, "d", []byte("x"), 50*time.Millisecond))
		gone(t, "d")
		if ok, err := c.Add(ctx, "d", nil, time.Minute); !ok || err != nil {
			t.Errorf("add after expiry: %v %v", ok, err)
		}
	})
	t.Run("counters count and expire from their first increment", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := c.Increment(ctx, "n", time.Minute); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n, err := c.Increment(ctx, "n", time.Minute); n != 101 || err != nil {
			t.Errorf("counted %d, want 101: %v", n, err)
		}
		if text, _, _ := c.Get(ctx, "n"); string(text) != "101" {
			t.Errorf("counter reads %q", text)
		}
		if _, err := c.Increment(ctx, "m", 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		gone(t, "m")
	})
	t.Run("a limit allows exactly its burst under concurrency", func(t *testing.T) {
		limit := Limit{Rate: 60, Per: time.Hour, Burst: 60} // one a minute: none is added while the test runs
		var allowed atomic.Int32
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				d, err := c.Allow(ctx, "l", limit)
				if err != nil {
					t.Error(err)
				}
				if d.Allowed {
					allowed.Add(1)
				}
			})
		}
		wg.Wait()
		if allowed.Load() != 60 {
			t.Errorf("%d of 200 were allowed, want 60", allowed.Load())
		}
		d, err := c.Allow(ctx, "l", limit)
		if d.Allowed || d.Remaining != 0 || d.RetryAfter <= 0 || d.RetryAfter > time.Minute || err != nil {
			t.Errorf("after the burst: %+v %v", d, err)
		}
	})
	t.Run("a limit refills", func(t *testing.T) {
		limit := Limit{Rate: 20, Per: time.Second, Burst: 2}
		for i := range 2 {
			if d, err := c.Allow(ctx, "r", limit); !d.Allowed || d.Remaining != 1-i || err != nil {
				t.Fatalf("event %d: %+v %v", i, d, err)
			}
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
			d, err := c.Allow(ctx, "r", limit)
			must(t, err)
			if d.Allowed {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the limit does not refill")
			}
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	c := NewMemory(1000)
	defer c.Close()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Allow(b.Context(), fmt.Sprint(i%100), Limit{Rate: 1000, Per: time.Second, Burst: 1000}); err != nil {
			b.Fatal(err)
		}
	}
}
