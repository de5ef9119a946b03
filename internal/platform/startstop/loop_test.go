package startstop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	})
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
	(*Loop)(nil).Stop()
}
