package membus

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/novacron/novacron/internal/bus"
)

// The table must find what bus.Match says, after any sequence of additions and removals, and keep nothing of what was removed.
func TestTableFindsWhatMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.SampledFrom([]string{"a", "b", "c", "*"})
		pattern := rapid.Custom(func(t *rapid.T) string {
			tokens := rapid.SliceOfN(token, 0, 4).Draw(t, "tokens")
			if len(tokens) == 0 || rapid.IntRange(0, 3).Draw(t, "open") == 0 {
				tokens = append(tokens, ">")
			}
			return strings.Join(tokens, ".")
		})
		tab := newTable()
		var present []*subscription
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(present) > 0 && rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				i := rapid.IntRange(0, len(present)-1).Draw(t, "which")
				tab.remove(present[i])
				tab.remove(present[i]) // a second Close
				present = slices.Delete(present, i, i+1)
			} else {
				s := &subscription{pattern: pattern.Draw(t, "pattern")}
				tab.add(s)
				present = append(present, s)
			}
			subject := strings.ReplaceAll(strings.Join(rapid.SliceOfN(token, 1, 5).Draw(t, "subject"), "."), "*", "x")
			want := map[*subscription]int{}
			for _, s := range present {
				if bus.Match(s.pattern, subject) {
					want[s]++
				}
			}
			tab.match(subject, func(subs []*subscription) {
				for _, s := range subs {
					want[s]--
				}
			})
			for s, n := range want {
				if n != 0 {
					t.Fatalf("%s for %s: %+d of what is right", s.pattern, subject, -n)
				}
			}
		}
		all := 0
		tab.each(func(*subscription) { all++ })
		if all != len(present) {
			t.Fatalf("%d subscriptions, want %d", all, len(present))
		}
		for _, s := range present {
			tab.remove(s)
		}
		if len(tab.exact) != 0 || !tab.wild.empty() {
			t.Fatal("something is left of removed subscriptions")
		}
	})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	var q queue
	pushed, popped := uint64(0), uint64(0)
	for range 10_000 {
		if q.len() == 0 || rand.IntN(5) < 3 && q.len() < 100 {
			q.push(waiting{lostBefore: pushed})
			pushed++
		} else if w := q.pop(); w.lostBefore != popped {
			t.Fatalf("got %d, want %d", w.lostBefore, popped)
		} else {
			popped++
		}
		if want := int(pushed - popped); q.len() != want {
			t.Fatalf("length %d, want %d", q.len(), want)
		}
	}
}
