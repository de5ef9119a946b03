package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take that must happen.
const patience = 20 * time.Second

// suite is what every cache must do. Each test uses keys of its own.
func suite(t *testing.T, c Cache) {
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	for name, test := range map[string]func(*testing.T, Cache){
		"set, get, delete":              testValues,
		"values are any bytes":          testBytes,
		"values expire":                 testExpiry,
		"add is exclusive":              testAdd,
		"counters":                      testCounters,
		"counters at the edge":          testCounterEdges,
		"a time to live is positive":    testTTL,
		"limit, 200 callers at once":    testLimitExact,
		"limit refills":                 testLimitRefills,
		"limit keys are apart":          testLimitKeys,
		"several limits, all or none":   testLimitAll,
		"limit with costs":              testLimitCost,
		"several limits, many callers":  testLimitAllExact,
		"limits that make no sense":     testLimitInvalid,
		"limit keeps the promised time": testRetryAfter,
		"newer versions win":            testVersions,
		"versions, many writers":        testVersionsExact,
		"versions expire":               testVersionsExpire,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll asks until the answer is yes.
func poll(t *testing.T, what string, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ask(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func gone(t *testing.T, c Cache, key string) {
	t.Helper()
	poll(t, "the expiry of "+key, func() bool {
		_, ok, err := c.Get(t.Context(), key)
		must(t, err)
		return !ok
	})
}

func testValues(t *testing.T, c Cache) {
	ctx := t.Context()
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
	must(t, c.Set(ctx, "a", []byte("two"), time.Minute))
	must(t, c.Set(ctx, "a2", []byte("three"), time.Minute))
	if got, _, _ := c.Get(ctx, "a"); string(got) != "two" {
		t.Errorf("overwritten, but %q", got)
	}
	must(t, c.Delete(ctx, "a", "never there", "a2"))
	must(t, c.Delete(ctx))
	for _, key := range []string{"a", "a2"} {
		if _, ok, _ := c.Get(ctx, key); ok {
			t.Errorf("deleted key %s is there", key)
		}
	}
}

func testBytes(t *testing.T, c Cache) {
	for name, value := range map[string][]byte{"nil": nil, "empty": {}, "binary": {0, 255, '\r', '\n', 0}, "large": bytes.Repeat([]byte("x"), 1<<20)} {
		for _, key := range []string{"bytes", "a key with\r\nlines and \x00", ""} {
			must(t, c.Set(t.Context(), key, value, time.Minute))
			if got, ok, err := c.Get(t.Context(), key); !ok || err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s value at %q: %d bytes, %v, %v", name, key, len(got), ok, err)
			}
		}
	}
}

func testExpiry(t *testing.T, c Cache) {
	must(t, c.Set(t.Context(), "b", []byte("x"), 50*time.Millisecond))
	must(t, c.Set(t.Context(), "b2", []byte("x"), time.Nanosecond))
	must(t, c.Set(t.Context(), "b3", []byte("x"), time.Millisecond))
	must(t, c.Set(t.Context(), "b3", []byte("y"), time.Hour)) // a later Set counts
	gone(t, c, "b")
	gone(t, c, "b2")
	if got, ok, err := c.Get(t.Context(), "b3"); string(got) != "y" || !ok || err != nil {
		t.Errorf("got %q %v %v", got, ok, err)
	}
}

func testAdd(t *testing.T, c Cache) {
	var added atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ok, err := c.Add(t.Context(), "c", []byte("x"), time.Minute)
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
	must(t, c.Set(t.Context(), "d", []byte("x"), 50*time.Millisecond))
	gone(t, c, "d")
	if ok, err := c.Add(t.Context(), "d", []byte("y"), time.Minute); !ok || err != nil {
		t.Errorf("add after expiry: %v %v", ok, err)
	}
	if ok, err := c.Add(t.Context(), "d", []byte("z"), time.Minute); ok || err != nil {
		t.Errorf("add again: %v %v", ok, err)
	}
	if got, _, _ := c.Get(t.Context(), "d"); string(got) != "y" {
		t.Errorf("the key holds %q", got)
	}
}

func testCounters(t *testing.T, c Cache) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := c.Increment(ctx, "n", time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, step := range []struct{ delta, want int64 }{{1, 101}, {10, 111}, {-111, 0}, {-5, -5}, {0, -5}} {
		if n, err := c.Incr(ctx, "n", step.delta, time.Minute); n != step.want || err != nil {
			t.Errorf("after %+d it is %d, want %d: %v", step.delta, n, step.want, err)
		}
	}
	if text, _, _ := c.Get(ctx, "n"); string(text) != "-5" {
		t.Errorf("counter reads %q", text)
	}
	must(t, c.Set(ctx, "n", []byte("41"), time.Minute))
	if n, err := c.Increment(ctx, "n", time.Minute); n != 42 || err != nil {
		t.Errorf("a number that was set is counted on to %d: %v", n, err)
	}
	// Later increments do not prolong its life.
	begun := time.Now()
	for expired := false; !expired; {
		n, err := c.Incr(ctx, "m", 1, 200*time.Millisecond)
		must(t, err)
		expired = n == 1 && time.Since(begun) > 100*time.Millisecond
		if time.Since(begun) > patience {
			t.Fatal("a counter that is counted on does not expire")
		}
	}
	gone(t, c, "m")
}

func testCounterEdges(t *testing.T, c Cache) {
	ctx := t.Context()
	for _, value := range []string{"", "text", "1.5", " 1", "99999999999999999999"} {
		must(t, c.Set(ctx, "odd", []byte(value), time.Minute))
		if _, err := c.Incr(ctx, "odd", 1, time.Minute); !errors.Is(err, ErrNotCounter) {
			t.Errorf("counting on from %q: %v", value, err)
		}
		if got, _, _ := c.Get(ctx, "odd"); string(got) != value {
			t.Errorf("%q became %q", value, got)
		}
	}
	for key, step := range map[string]int64{"most": math.MaxInt64, "least": math.MinInt64 + 1} {
		if n, err := c.Incr(ctx, key, step, time.Minute); n != step || err != nil {
			t.Errorf("%d became %d: %v", step, n, err)
		}
		if _, err := c.Incr(ctx, key, step, time.Minute); !errors.Is(err, ErrNotCounter) {
			t.Errorf("%d twice: %v", step, err)
		}
	}
}

func testTTL(t *testing.T, c Cache) {
	ctx := t.Context()
	for _, ttl := range []time.Duration{0, -1, -time.Hour} {
		_, added := c.Add(ctx, "t", nil, ttl)
		_, counted := c.Incr(ctx, "t", 1, ttl)
		for method, err := range map[string]error{"set": c.Set(ctx, "t", nil, ttl), "add": added, "incr": counted} {
			if err == nil || errors.Is(err, ErrUnavailable) {
				t.Errorf("%s for %v: %v", method, ttl, err)
			}
		}
	}
	if _, ok, err := c.Get(ctx, "t"); ok || err != nil {
		t.Errorf("something was stored: %v %v", ok, err)
	}
}

func testLimitExact(t *testing.T, c Cache) {
	limit := Limit{Rate: 60, Per: time.Hour, Burst: 60} // one a minute: none is added while the test runs
	var allowed atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			d, err := c.Allow(context.Background(), "l", limit)
			if err != nil {
				t.Error(err)
			}
			if d.Allowed {
				allowed.Add(1)
			}
			if d.Limit != 60 {
				t.Errorf("limit %d", d.Limit)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 60 {
		t.Errorf("%d of 200 were allowed, want 60", allowed.Load())
	}
	d, err := c.Allow(context.Background(), "l", limit)
	if d.Allowed || d.Remaining != 0 || d.RetryAfter <= 0 || d.RetryAfter > time.Minute || d.ResetAfter <= 59*time.Minute-patience || d.ResetAfter > time.Hour || err != nil {
		t.Errorf("after the burst: %+v %v", d, err)
	}
}

func testLimitRefills(t *testing.T, c Cache) {
	limit := Limit{Rate: 2, Per: 10 * time.Hour, Burst: 2}
	for i := range 2 {
		d, err := c.Allow(t.Context(), "r", limit)
		if !d.Allowed || d.Remaining != 1-i || d.RetryAfter != 0 || d.ResetAfter <= 0 || d.ResetAfter > 10*time.Hour || err != nil {
			t.Fatalf("event %d: %+v %v", i, d, err)
		}
	}
	quick := Limit{Rate: 20, Per: time.Second, Burst: 1}
	poll(t, "two events of a limit that refills", func() bool {
		d, err := c.Allow(t.Context(), "q", quick)
		must(t, err)
		return d.Allowed
	})
	poll(t, "the next event", func() bool {
		d, err := c.Allow(t.Context(), "q", quick)
		must(t, err)
		return d.Allowed
	})
}

func testLimitKeys(t *testing.T, c Cache) {
	limit := Limit{Rate: 1, Per: time.Hour, Burst: 1}
	for i := range 3 {
		key := fmt.Sprint("apart", i)
		first, err := c.Allow(t.Context(), key, limit)
		must(t, err)
		second, err := c.Allow(t.Context(), key, limit)
		must(t, err)
		if !first.Allowed || second.Allowed {
			t.Errorf("%s: %+v, then %+v", key, first, second)
		}
	}
	// Forgetting the key makes the burst whole again.
	must(t, c.Delete(t.Context(), "apart0"))
	if d, err := c.Allow(t.Context(), "apart0", limit); !d.Allowed || err != nil {
		t.Errorf("after Delete: %+v %v", d, err)
	}
}

func testLimitInvalid(t *testing.T, c Cache) {
	for _, limit := range []Limit{
		{}, {0, time.Second, 1}, {1, 0, 1}, {1, time.Second, 0}, {-1, time.Second, 1}, {1, -time.Second, 1}, {1, time.Second, -1},
		{1, time.Hour, math.MaxInt}, {1, math.MaxInt64, 2},
	} {
		if d, err := c.Allow(t.Context(), "i", limit); err == nil || d.Allowed || errors.Is(err, ErrUnavailable) {
			t.Errorf("%+v: %+v, %v", limit, d, err)
		}
	}
	// More than can be told apart is no error, and does not divide by zero.
	if d, err := c.Allow(t.Context(), "i", Limit{math.MaxInt, time.Second, 5}); !d.Allowed || err != nil {
		t.Errorf("%+v %v", d, err)
	}
}

// testRetryAfter: whoever waits as long as told is let in, with nobody else about.
func testRetryAfter(t *testing.T, c Cache) {
	limit := Limit{Rate: 10, Per: time.Second, Burst: 1}
	var wait time.Duration
	for refusals := 0; refusals < 5; {
		<-time.After(wait)
		d, err := c.Allow(t.Context(), "w", limit)
		must(t, err)
		if wait > 0 && !d.Allowed {
			t.Fatalf("refused after waiting %v as told: %+v", wait, d)
		}
		if wait = d.RetryAfter; wait > 0 {
			refusals++
			wait += time.Millisecond // Redis' clock and ours need not tick together
		}
	}
}

func testLimitAll(t *testing.T, c Cache) {
	wide, narrow := Ask{Key: "all wide", Limit: Limit{Rate: 10, Per: time.Hour, Burst: 10}}, Ask{Key: "all narrow", Limit: Limit{Rate: 2, Per: time.Hour, Burst: 2}}
	for i := range 4 {
		d, which, err := c.AllowAll(t.Context(), wide, narrow)
		must(t, err)
		if d.Allowed != (i < 2) || which != 1 || d.Limit != 2 || d.Remaining != max(1-i, 0) {
			t.Errorf("ask %d: %+v of %d", i, d, which)
		}
	}
	// What the narrow limit refused did not cost the wide one anything.
	d, err := c.Allow(t.Context(), wide.Key, wide.Limit)
	must(t, err)
	if !d.Allowed || d.Remaining != 7 {
		t.Errorf("the wide limit after two events and two refusals: %+v", d)
	}
	for _, bad := range [][]Ask{{}, {wide, wide}, {{Key: "x"}}, make([]Ask, 9)} {
		if _, _, err := c.AllowAll(t.Context(), bad...); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func testLimitCost(t *testing.T, c Cache) {
	l := Limit{Rate: 10, Per: time.Hour, Burst: 10}
	for _, step := range []struct {
		cost    int
		allowed bool
		left    int
	}{{4, true, 6}, {7, false, 6}, {0, true, 5}, {5, true, 0}, {1, false, 0}} {
		d, _, err := c.AllowAll(t.Context(), Ask{Key: "cost", Limit: l, Cost: step.cost})
		must(t, err)
		if d.Allowed != step.allowed || d.Remaining != step.left {
			t.Errorf("cost %d: %+v", step.cost, d)
		}
	}
	// What costs more than a whole burst must not wait for ever.
	d, _, err := c.AllowAll(t.Context(), Ask{Key: "dear", Limit: l, Cost: 1000})
	must(t, err)
	if !d.Allowed || d.Remaining != 0 {
		t.Errorf("cost above the burst: %+v", d)
	}
}

// Many callers who share two limits are let in exactly as often as the narrower one allows.
func testLimitAllExact(t *testing.T, c Cache) {
	a, b := Ask{Key: "exact a", Limit: Limit{Rate: 50, Per: time.Hour, Burst: 50}}, Ask{Key: "exact b", Limit: Limit{Rate: 90, Per: time.Hour, Burst: 90}, Cost: 2}
	var in atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if d, _, err := c.AllowAll(t.Context(), a, b); err != nil {
				t.Error(err)
			} else if d.Allowed {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 45 {
		t.Errorf("%d were let in, want 45", in.Load())
	}
}
