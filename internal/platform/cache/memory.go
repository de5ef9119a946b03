package cache

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory is a cache within the process. It forgets the least useful entries when it is full.
type Memory struct {
	mu      sync.Mutex // makes read-modify-write of Add, Increment and Allow one step
	entries *otter.Cache[string, entry]
}

type entry struct {
	value   []byte
	expires time.Time
}

// NewMemory makes a cache of at most so many entries.
func NewMemory(maxEntries int) *Memory {
	return &Memory{entries: otter.Must(&otter.Options[string, entry]{
		MaximumSize:      maxEntries,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, entry]) time.Duration { return time.Until(e.Value.expires) }),
	})}
}

var _ Cache = (*Memory)(nil)

func (m *Memory) get(key string) (entry, bool) {
	e, ok := m.entries.GetIfPresent(key)
	return e, ok && time.Now().Before(e.expires)
}

// Get implements Cache.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	e, ok := m.get(key)
	if !ok {
		return nil, false, nil
	}
	return slices.Clone(e.value), true, nil
}

// Set implements Cache.
func (m *Memory) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Set(key, entry{value: slices.Clone(value), expires: time.Now().Add(ttl)})
	return nil
}

// Add implements Cache.
func (m *Memory) Add(_ context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.get(key); ok {
		return false, nil
	}
	m.entries.Set(key, entry{value: slices.Clone(value), expires: time.Now().Add(ttl)})
	return true, nil
}

// Increment implements Cache.
func (m *Memory) Increment(_ context.Context, key string, ttl time.Duration) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.get(key)
	if !ok {
		e = entry{expires: time.Now().Add(ttl)}
	}
	n, _ := strconv.ParseInt(string(e.value), 10, 64) // what is no number counts as 0
	e.value = strconv.AppendInt(nil, n+1, 10)
	m.entries.Set(key, e)
	return n + 1, nil
}

// Delete implements Cache.
func (m *Memory) Delete(_ context.Context, keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		m.entries.Invalidate(key)
	}
	return nil
}

// Allow implements Cache.
func (m *Memory) Allow(_ context.Context, key string, limit Limit) (Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var tat time.Duration
	if e, ok := m.get(key); ok {
		tat = e.expires.Sub(now) // the entry lives exactly until its theoretical arrival time
	}
	tat, d := decide(tat, limit)
	if d.Allowed {
		m.entries.Set(key, entry{expires: now.Add(tat)})
	}
	return d, nil
}

// Close implements Cache.
func (m *Memory) Close() error {
	m.entries.StopAllGoroutines()
	return nil
}
