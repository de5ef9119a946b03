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

	mu        sync.Mutex                        // guards elsewhere
	elsewhere map[uuid.UUID]*identity.Principal // acting in other tenants, as far as was asked
}

// maxElsewhere bounds how many other tenants are remembered of one session.
const maxElsewhere = 32

// in gives the principal who acts in another tenant, or nil where that has not been asked.
func (st *sessionState) in(tenant uuid.UUID) *identity.Principal {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.elsewhere[tenant]
}

// rememberIn keeps the principal who acts in another tenant. It lives as long as the state: a change forgets both.
func (st *sessionState) rememberIn(tenant uuid.UUID, p *identity.Principal) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.elsewhere == nil || len(st.elsewhere) >= maxElsewhere {
		st.elsewhere = map[uuid.UUID]*identity.Principal{}
	}
	st.elsewhere[tenant] = p
}

// sessionCache remembers sessions by id. A state that was being read while something changed is used once and not remembered.
type sessionCache struct {
	entries *otter.Cache[uuid.UUID, *sessionState]

	mu      sync.Mutex // guards changes, and keeps remember and forget apart
	changes uint64
}

func newSessionCache(size int) (*sessionCache, error) {
	entries, err := otter.New(&otter.Options[uuid.UUID, *sessionState]{MaximumSize: size})
	if err != nil {
		return nil, fmt.Errorf("make the cache of sessions: %w", err)
	}
	return &sessionCache{entries: entries}, nil
}

// mark gives the point in the sequence of changes at which a read begins.
func (c *sessionCache) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// remember keeps what was read since mark, unless something has changed meanwhile.
func (c *sessionCache) remember(mark uint64, id uuid.UUID, state *sessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == mark {
		c.entries.Set(id, state)
	}
}

// forget drops the session.
func (c *sessionCache) forget(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.Invalidate(id)
}

// forgetWhere drops all sessions that meet the condition. It walks through all of them; changes that need it are rare.
func (c *sessionCache) forgetWhere(condition func(*sessionState) bool) {
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
func (c *sessionCache) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.entries.InvalidateAll()
}
