package cache

// Recent is a map of bounded size that forgets what was not used for longest, roughly: it keeps the entries that were used last, at least half as
// many as it may hold. It is for what is looked up with every request, where a map's lookup is all that it costs. It is not safe for
// concurrent use.
type Recent[K comparable, V any] struct {
	half       int
	young, old map[K]V // what was used since the last turn, and between the two turns before it
}

// NewRecent makes a Recent of at most so many entries, at least 2.
func NewRecent[K comparable, V any](most int) *Recent[K, V] {
	return &Recent[K, V]{half: max(most/2, 1), young: map[K]V{}}
}

// Get gives the value of a key.
func (r *Recent[K, V]) Get(key K) (V, bool) {
	v, ok := r.young[key]
	if ok {
		return v, true
	}
	if v, ok = r.old[key]; ok {
		delete(r.old, key)
		r.Set(key, v)
	}
	return v, ok
}

// Set keeps a value.
func (r *Recent[K, V]) Set(key K, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.half {
		r.young, r.old = map[K]V{}, r.young
	}
	r.young[key] = v
}

// Delete forgets a key.
func (r *Recent[K, V]) Delete(key K) {
	delete(r.young, key)
	delete(r.old, key)
}

// Len tells how many entries there are at most.
func (r *Recent[K, V]) Len() int { return len(r.young) + len(r.old) }
