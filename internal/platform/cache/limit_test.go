package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// In no stretch of time are more events allowed than a burst and what the rate adds meanwhile, and no promise is broken: whoever waits for
// RetryAfter is let in, and after ResetAfter a whole burst is.
func TestLimitProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limit{
			Rate:  rapid.IntRange(1, 1000).Draw(t, "rate"),
			Per:   time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "per")),
			Burst: rapid.IntRange(1, 50).Draw(t, "burst"),
		}
		var now, tat time.Duration // since the beginning
		var allowed []time.Duration
		ask := func() Decision {
			after, ok := decide(tat-now, Ask{Limit: l})
			tat = now + after
			if ok {
				allowed = append(allowed, now)
			}
			d := decision(after, ok, Ask{Limit: l})
			if d.Limit != l.Burst || d.Remaining < 0 || d.Remaining > l.Burst-1 || d.RetryAfter < 0 || d.ResetAfter < 0 || d.ResetAfter > l.tolerance() {
				t.Fatalf("%+v decides %+v", l, d)
			}
			if d.Allowed != (d.RetryAfter == 0) {
				t.Fatalf("allowed %v, but retry after %v", d.Allowed, d.RetryAfter)
			}
			return d
		}
		for range rapid.IntRange(1, 100).Draw(t, "events") {
			now += time.Duration(rapid.Int64Range(0, 2*int64(l.interval())).Draw(t, "pause"))
			d := ask()
			if rapid.Bool().Draw(t, "obedient") && !d.Allowed {
				now += d.RetryAfter - 1
				if ask().Allowed {
					t.Fatal("let in before RetryAfter")
				}
				now++
				if !ask().Allowed {
					t.Fatal("refused after RetryAfter")
				}
			}
		}
		for i := range allowed {
			for j := i; j < len(allowed); j++ {
				if most := l.Burst + int((allowed[j]-allowed[i])/l.interval()); j-i+1 > most {
					t.Fatalf("%d events in %v, want at most %d", j-i+1, allowed[j]-allowed[i], most)
				}
			}
		}
		d := ask()
		now += d.ResetAfter
		for i := range l.Burst {
			if d := ask(); !d.Allowed || d.Remaining != l.Burst-1-i {
				t.Fatalf("event %d of a whole burst: %+v", i, d)
			}
		}
		if ask().Allowed {
			t.Fatal("more than a burst at once")
		}
	})
}
