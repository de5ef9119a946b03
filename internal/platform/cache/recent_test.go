package cache

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever is done, what was used last is there with its last value, what was deleted is not, and the bound holds.
func TestRecentProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(2, 20).Draw(t, "most")
		r := NewRecent[int, int](most)
		last, used := map[int]int{}, []int{}
		use := func(key int) {
			for i, k := range used {
				if k == key {
					used = append(used[:i], used[i+1:]...)
					break
				}
			}
			used = append(used, key)
		}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := rapid.IntRange(0, 30).Draw(t, "key")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				r.Delete(key)
				delete(last, key)
			case 1, 2:
				r.Set(key, i)
				last[key] = i
				use(key)
			default:
				v, ok := r.Get(key)
				if want, set := last[key]; ok && (!set || v != want) {
					t.Fatalf("%d is %d, not %d (%t)", key, v, want, set)
				}
				if !ok {
					delete(last, key) // forgotten
				} else {
					use(key)
				}
			}
			if r.Len() > most {
				t.Fatalf("%d entries in a map of %d", r.Len(), most)
			}
			for _, k := range used[max(len(used)-max(most/2, 1), 0):] {
				_, young := r.young[k]
				_, old := r.old[k]
				if _, set := last[k]; set && !young && !old {
					t.Fatalf("%d was used lately and is forgotten", k)
				}
			}
		}
	})
}
