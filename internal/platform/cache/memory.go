package cache

import (
	"context"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory is a cache within the process. It forgets the least useful entries when it is full.
type Memory struct {
	mu      sync.Mutex // makes read-modify-write of Add and Incr one step; Get needs none
	entries *otter.Cache[string, entry]

	limiting sync.Mutex // guards tats
	// tats are the theoretical arrival times of limits, see decide. They are apart from the entries because every request asks for several,
	// and has them changed where they are. One that is in the past says no more than none does.
	tats *Recent[string, *time.Time]
}

type entry struct {
	value   []byte // never changed once stored
	expires time.Time
}

var _ Cache = (*Memory)(nil)

// NewMemory makes a cache of at most so many entries and as many limits, which must be positive.
func NewMemory(maxEntries int) *Memory {
	return &Memory{tats: NewRecent[string, *time.Time](maxEntries), entries: otter.Must(&otter.Options[string, entry]{
		MaximumSize:      maxEntries,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, entry]) time.Duration { return time.Until(e.Value.expires) }),
	})}
}

// entryOverhead is about what an entry takes besides its key and value.
const entryOverhead = 200

// NewMemoryBytes makes a cache of at most about so many bytes, which must be positive and below 4 GiB.
func NewMemoryBytes(maxBytes uint32) *Memory {
	return &Memory{tats: NewRecent[string, *time.Time](int(maxBytes / entryOverhead)), entries: otter.Must(&otter.Options[string, entry]{
		MaximumWeight:    uint64(maxBytes),
		Weigher:          func(key string, e entry) uint32 { return uint32(len(key)+len(e.value)) + entryOverhead }, //nolint:gosec // values are far below 4 GiB
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, entry]) time.Duration { return time.Until(e.Value.expires) }),
	})}
}

func (m *Memory) get(key string, now time.Time) (entry, bool) {
	e, ok := m.entries.GetIfPresent(key)
	return e, ok && now.Before(e.expires) // otter's own clock is coarser
}

// Get implements Cache.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	e, ok := m.get(key, time.Now())
	if !ok {
		return nil, false, nil
	}
	return slices.Clone(e.value), true, nil
}

// Set implements Cache.
func (m *Memory) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	if err := checkTTL(ttl); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Set(key, entry{value: slices.Clone(value), expires: time.Now().Add(ttl)})
	return nil
}

// Add implements Cache.
func (m *Memory) Add(_ context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	if err := checkTTL(ttl); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if _, ok := m.get(key, now); ok {
		return false, nil
	}
	m.entries.Set(key, entry{value: slices.Clone(value), expires: now.Add(ttl)})
	return true, nil
}

// Increment implements Cache.
func (m *Memory) Increment(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	return m.Incr(ctx, key, 1, ttl)
}

// Incr implements Cache.
func (m *Memory) Incr(_ context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	if err := checkTTL(ttl); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	e, ok := m.get(key, now)
	var n int64
	if ok {
		var err error
		if n, err = strconv.ParseInt(string(e.value), 10, 64); err != nil {
			return 0, ErrNotCounter.Wrap(err)
		}
	} else {
		e.expires = now.Add(ttl)
	}
	if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
		return 0, ErrNotCounter.WithMeta("reason", "overflow")
	}
	e.value = strconv.AppendInt(nil, n+delta, 10)
	m.entries.Set(key, e)
	return n + delta, nil
}

// Delete implements Cache.
func (m *Memory) Delete(_ context.Context, keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limiting.Lock()
	defer m.limiting.Unlock()
	for _, key := range keys {
		m.entries.Invalidate(key)
		m.tats.Delete(key)
	}
	return nil
}

// Allow implements Cache.
func (m *Memory) Allow(ctx context.Context, key string, limit Limit) (Decision, error) {
	d, _, err := m.AllowAll(ctx, Ask{Key: key, Limit: limit})
	return d, err
}

// AllowAll implements Cache.
func (m *Memory) AllowAll(_ context.Context, asks ...Ask) (Decision, int, error) {
	if err := checkAsks(asks); err != nil {
		return Decision{}, 0, err
	}
	var (
		tats      [maxAsks]*time.Time
		afters    [maxAsks]time.Duration
		decisions [maxAsks]Decision
	)
	all := true
	m.limiting.Lock()
	defer m.limiting.Unlock()
	now := time.Now()
	for i, a := range asks {
		var tat time.Duration
		if at, ok := m.tats.Get(a.Key); ok {
			tats[i], tat = at, at.Sub(now)
		}
		after, allowed := decide(tat, a)
		afters[i], all = after, all && allowed
		decisions[i] = decision(after, allowed, a)
	}
	if all {
		for i, a := range asks {
			if tats[i] == nil {
				tats[i] = new(time.Time)
				m.tats.Set(a.Key, tats[i])
			}
			*tats[i] = now.Add(afters[i])
		}
	}
	i := tightest(decisions[:len(asks)])
	return decisions[i], i, nil
}

// Close implements Cache.
func (m *Memory) Close() error {
	m.entries.StopAllGoroutines()
	return nil
}
