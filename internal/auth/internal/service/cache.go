package service

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/platform/identity"
)

// tokenCache remembers tokens whose signature and claims were found good, by their SHA-256: the cache holds nothing that could be used.
// What is true of a token now, its age and its session, is checked at every use.
type tokenCache struct {
	entries *otter.Cache[[sha256.Size]byte, *token.Claims]
}

func newTokenCache(size int) (*tokenCache, error) {
	entries, err := otter.New(&otter.Options[[sha256.Size]byte, *token.Claims]{MaximumSize: size})
	if err != nil {
		return nil, fmt.Errorf("make the cache of tokens: %w", err)
	}
	return &tokenCache{entries: entries}, nil
}

// sessionState is what was true of a session when it was read.
type sessionState struct {
	principal identity.Principal // acting at home
	homeRole  string
	expires   time.Time // of the session
	over      bool      // revoked, or its user or tenant is out of use
	read      time.Time

	elsewhere places // acting in other tenants, as far as was asked
}

// places remembers one principal as they act in other tenants than their own. It lives as long as the state that it is part of: a change
// forgets both.
type places struct {
	mu sync.Mutex // guards at
	at map[uuid.UUID]*identity.Principal
}

// maxPlaces bounds how many tenants are remembered.
const maxPlaces = 32

// in gives the principal who acts in a tenant, or nil where that has not been asked.
func (l *places) in(tenant uuid.UUID) *identity.Principal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[tenant]
}

func (l *places) remember(tenant uuid.UUID, p *identity.Principal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil || len(l.at) >= maxPlaces {
		l.at = map[uuid.UUID]*identity.Principal{}
	}
	l.at[tenant] = p
}

// stateCache remembers what was read of sessions or API keys. A state that was being read while something changed is used once and not
// remembered.
type stateCache[K comparable, S any] struct {
	entries *otter.Cache[K, S]

	mu      sync.Mutex // guards changes, and keeps remember and forget apart
	changes uint64
}

func newStateCache[K comparable, S any](size int) (*stateCache[K, S], error) {
	entries, err := otter.New(&otter.Options[K, S]{MaximumSize: size})
	if err != nil {
		return nil, fmt.Errorf("make a cache of states: %w", err)
	}
	return &stateCache[K, S]{entries: entries}, nil
}

// mark gives the point in the sequence of changes at which a read begins.
func (c *stateCache[K, S]) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// remember keeps what was read since mark, unless something has changed meanwhile.
func (c *stateCache[K, S]) remember(mark uint64, id K, state S) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == mark {
		c.entries.Set(id, state)
	}
}

// forget drops the state.
func (c *stateCache[K, S]) forget(id K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.Invalidate(id)
}

// forgetWhere drops all states that meet the condition. It walks through all of them; changes that need it are rare.
func (c *stateCache[K, S]) forgetWhere(condition func(S) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for id, state := range c.entries.All() {
		if condition(state) {
			c.entries.Invalidate(id)
		}
	}
}

// forgetAll drops everything.
func (c *stateCache[K, S]) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.InvalidateAll()
}
