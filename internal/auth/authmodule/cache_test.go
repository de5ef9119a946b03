package authmodule_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sharedCache is a cache that a test can take away.
type sharedCache struct {
	mu      sync.Mutex
	entries map[string]cached
	broken  error
}

type cached struct {
	value []byte
	ends  time.Time
}

func newSharedCache() *sharedCache { return &sharedCache{entries: map[string]cached{}} }

func (s *sharedCache) fail(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.broken = err }

func (s *sharedCache) Get(_ context.Context, key string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.entries[key]
	return e.value, found && time.Now().Before(e.ends), s.broken
}

func (s *sharedCache) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[key] = cached{value, time.Now().Add(ttl)}
	return s.broken
}

func (s *sharedCache) Increment(_ context.Context, key string, ttl time.Duration) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	e := s.entries[key]
	if !time.Now().Before(e.ends) {
		e = cached{[]byte("0"), time.Now().Add(ttl)}
	}
	n, err := strconv.ParseInt(string(e.value), 10, 64)
	e.value = strconv.AppendInt(nil, n+1, 10)
	s.entries[key] = e
	return n + 1, err
}

func (s *sharedCache) Delete(_ context.Context, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.entries, k)
	}
	return s.broken
}

// forget drops what has part in its key, as time does.
func (s *sharedCache) forget(part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.entries {
		if strings.Contains(k, part) {
			delete(s.entries, k)
		}
	}
}

// contextForCleanup gives a context for what runs after the test's own has ended.
func contextForCleanup(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
