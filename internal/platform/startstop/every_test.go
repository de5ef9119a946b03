package startstop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEveryCallsAtOnceThenRegularlyAndOnKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		l := Every(time.Minute, func(context.Context) { calls.Add(1) })
		want := func(n int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := calls.Load(); got != n {
				t.Errorf("%d calls %s, want %d", got, when, n)
			}
		}
		want(1, "at the start")
		time.Sleep(3*time.Minute + time.Second)
		want(4, "after three intervals")
		l.Kick()
		want(5, "after a kick")
		l.Stop()
		l.Stop()
		l.Kick()
		time.Sleep(time.Hour)
		want(5, "after the stop")
		if !l.Every(t.Context(), time.Minute, 0, func(context.Context) { calls.Add(1) }) {
			t.Error("not restarted")
		}
		want(6, "after the restart: the kick of a stopped loop is void")
		l.Stop()
	})
}

func TestEveryAddsJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Loop
		var at []time.Time
		l.Every(t.Context(), time.Minute, 30*time.Second, func(context.Context) { at = append(at, time.Now()) })
		time.Sleep(3 * time.Hour)
		l.Stop()
		seen := map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			if gap < time.Minute || gap >= 90*time.Second {
				t.Fatalf("%v between two calls", gap)
			}
			seen[gap] = true
		}
		if len(seen) < 50 {
			t.Errorf("%d calls, but only %d different gaps", len(at), len(seen))
		}
	})
}

func TestEveryCountsFromTheBeginningOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Loop
		var at []time.Time
		var busy atomic.Bool
		l.Every(t.Context(), time.Minute, 0, func(context.Context) {
			if busy.Swap(true) {
				t.Error("two calls at once")
			}
			at = append(at, time.Now())
			if len(at) == 2 {
				time.Sleep(5 * time.Minute) // longer than the interval: the next call follows at once
			} else {
				time.Sleep(20 * time.Second)
			}
			busy.Store(false)
		})
		time.Sleep(7*time.Minute + time.Second)
		l.Stop()
		want := []time.Duration{time.Minute, 5 * time.Minute, time.Minute}
		for i, gap := range want {
			if got := at[i+1].Sub(at[i]); got != gap {
				t.Errorf("gap %d is %v, want %v", i, got, gap)
			}
		}
	})
}

func TestKicksDuringACallAreOneMoreCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		l := Every(time.Hour, func(context.Context) { calls.Add(1); <-release })
		synctest.Wait()
		for range 5 {
			l.Kick()
		}
		close(release)
		synctest.Wait()
		if got := calls.Load(); got != 2 {
			t.Errorf("%d calls, want 2", got)
		}
		l.Stop()
	})
}

func TestEverySurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		l := Every(time.Minute, func(context.Context) {
			if calls.Add(1) == 1 {
				panic("the first call of a test")
			}
		})
		time.Sleep(time.Minute + time.Second)
		l.Stop()
		if got := calls.Load(); got != 2 || l.Err() != nil {
			t.Errorf("%d calls, want 2: %v", got, l.Err())
		}
	})
}

func TestEveryRefusesIntervalsThatWouldSpin(t *testing.T) {
	for _, d := range [][2]time.Duration{{0, 0}, {-1, 0}, {1, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was accepted", d)
				}
			}()
			new(Loop).Every(t.Context(), d[0], d[1], func(context.Context) {})
		}()
	}
}

func TestStopEndsAndAwaitsTheCall(t *testing.T) {
	begun, ended := make(chan struct{}), atomic.Bool{}
	l := Every(time.Hour, func(ctx context.Context) {
		close(begun)
		<-ctx.Done()
		ended.Store(true)
	})
	<-begun
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(l.Stop)
	}
	wg.Wait()
	if !ended.Load() {
		t.Error("Stop did not wait")
	}
}
