package gcroom

import (
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// inForce gives the percentage that the collector goes by.
func inForce() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64()) //nolint:gosec // a percentage
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 30 s: %s; the percentage is %d", what, inForce())
		}
		runtime.GC()
	}
}

func TestSmallHeapsAreGivenRoomAndLargeOnesAreNot(t *testing.T) {
	t.Setenv("GOGC", "") // so that the next line is undone
	os.Unsetenv("GOGC")
	before := inForce()
	stop := Keep(32 << 20)
	defer stop()
	until(t, "a small heap has room", func() bool { return inForce() > 2*usual })
	large := make([][]byte, 64)
	for i := range large {
		large[i] = make([]byte, 1<<20)
	}
	until(t, "a large heap is collected as usual", func() bool { return inForce() == usual })
	runtime.KeepAlive(large)
	clear(large)
	until(t, "it is small again", func() bool { return inForce() > 2*usual })
	stop()
	if now := inForce(); now != before {
		t.Errorf("%d after the end, %d before", now, before)
	}
	runtime.GC()
	runtime.GC()
	if now := inForce(); now != before {
		t.Errorf("%d a while after the end, %d before", now, before)
	}
}

func TestWhoSetsThePercentageIsObeyed(t *testing.T) {
	before := inForce()
	t.Setenv("GOGC", "100")
	Keep(32 << 20)()
	os.Unsetenv("GOGC")
	Keep(0)()
	if now := inForce(); now != before {
		t.Errorf("%d instead of %d", now, before)
	}
}

func TestPercentage(t *testing.T) {
	for _, c := range []struct {
		room    int64
		counted uint64
		want    int
	}{{32 << 20, 8 << 20, 400}, {32 << 20, 32 << 20, 100}, {32 << 20, 1 << 40, 100}, {32 << 20, 0, 3200}, {1, 8 << 20, 100}} {
		if got := percentage(c.room, c.counted); got != c.want {
			t.Errorf("room %d, counted %d: %d, want %d", c.room, c.counted, got, c.want)
		}
	}
}
