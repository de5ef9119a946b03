// Package gcroom lets a process whose heap is small collect garbage less often. Go's collector starts when there is as much garbage as there is
// that lives: with some MiB that live, several times in a second of load, and each time it looks at all that lives. Here it waits until a room of
// fixed size is full. A heap that is larger than the room is collected as Go does by itself, so the room is all that a process can take more.
//
// Only the composition root uses it; it changes the process as a whole.
package gcroom

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// usual is Go's own percentage.
const usual = 100

// Keep lets garbage take up room bytes before it is collected, from now on until stop. It is for a process that has started: what the start has left
// is given back to the system first, so that the room is not taken on top of it. It does nothing where room is 0, or where whoever runs the process
// has set GOGC. stop restores the percentage of before.
func Keep(room int64) (stop func()) {
	if _, set := os.LookupEnv("GOGC"); set || room <= 0 {
		return func() {}
	}
	k := &keeper{room: room, samples: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}}
	k.before = debug.SetGCPercent(usual)
	k.percent = usual
	debug.FreeOSMemory() // which collects first, so that it is known what lives
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set()
	k.watch()
	return k.stop
}

// keeper follows one collection after the other.
type keeper struct {
	room   int64
	before int

	mu      sync.Mutex // guards what follows
	samples []metrics.Sample
	percent int
	stopped bool
}

// collected is garbage that tells when it has been collected. What has no pointer may share its memory with others, and would tell late.
type collected struct{ by *keeper }

// watch has the percentage set anew after the next collection, and after each that follows.
func (k *keeper) watch() {
	c := &collected{by: k}
	runtime.AddCleanup(c, func(k *keeper) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.stopped {
			k.set()
			k.watch()
		}
	}, c.by)
}

// set sets the percentage that the room is of what the collector counts: what lives, stacks and globals (runtime.SetGCPercent). To set it stops
// the process for a moment, so a small change is left alone.
func (k *keeper) set() {
	metrics.Read(k.samples)
	var counted uint64
	for _, s := range k.samples {
		counted += s.Value.Uint64()
	}
	if percent := percentage(k.room, counted); percent > k.percent*5/4 || percent < k.percent*4/5 {
		k.percent = percent
		debug.SetGCPercent(percent)
	}
}

func percentage(room int64, counted uint64) int {
	return int(max(usual, uint64(room)*100/max(counted, 1<<20))) //nolint:gosec // room is positive, and the result small
}

func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.stopped = true
		debug.SetGCPercent(k.before)
	}
}
