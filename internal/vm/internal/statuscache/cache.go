// Package statuscache keeps the statuses of virtual machines for those who ask again and again. The truth is in PostgreSQL: what is kept is read from
// there, in the order of the rows' revisions, is renewed with every change that is told, and lives for a few seconds, so that a word that is
// lost does no lasting harm. A cache that is away, and a machine that is to be deleted, send the question to PostgreSQL.
//
// Only the service of the vm module uses it, and decides who may see what.
package statuscache

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/vm"
)

// TTL is the greatest age of a status that is served.
const TTL = 5 * time.Second

// Kept is the part of the shared cache that it uses.
type Kept interface {
	SetNewer(ctx context.Context, ttl time.Duration, items ...cache.Versioned) error
	GetVersioned(ctx context.Context, keys ...string) ([]cache.Versioned, error)
}

// Recorder counts the questions by where their answer came from, and the failures of the cache.
type Recorder interface {
	Read(hits, misses int)
	CacheFailed()
}

// Config is what a cache is made of. Every field is needed.
type Config struct {
	Kept     Kept
	Read     func(ctx context.Context, ids []uuid.UUID) ([]vm.Status, error) // of PostgreSQL; those that are not there are left out
	Recorder Recorder
	Log      *slog.Logger
}

// Cache is safe for concurrent use.
type Cache struct {
	cfg  Config
	load loader
}

// New makes a cache. It has goroutines only while somebody waits for it.
func New(cfg Config) *Cache {
	c := &Cache{cfg: cfg}
	c.load.read = c.fill
	return c
}

func key(id uuid.UUID) string { return "vm.status:" + id.String() }

// Get gives statuses, of whichever tenant. Those of virtual machines that are not there are left out.
func (c *Cache) Get(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vm.Status, error) {
	found, missing := c.kept(ctx, ids)
	c.cfg.Recorder.Read(len(found), len(missing))
	if len(missing) == 0 {
		return found, nil
	}
	read, err := c.load.get(ctx, missing)
	if err != nil {
		return nil, err
	}
	for _, id := range missing {
		if status, ok := read[id]; ok {
			found[id] = status
		}
	}
	return found, nil
}

// kept gives what the cache has, and which it has not.
func (c *Cache) kept(ctx context.Context, ids []uuid.UUID) (found map[uuid.UUID]vm.Status, missing []uuid.UUID) {
	found = make(map[uuid.UUID]vm.Status, len(ids))
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = key(id)
	}
	items, err := c.cfg.Kept.GetVersioned(ctx, keys...)
	if err != nil {
		c.failed(ctx, "statuses are read from the database: the cache cannot be read", err)
		return found, ids
	}
	oldest := time.Now().Add(-TTL)
	for i, item := range items {
		var status vm.Status
		// What another version of NovaCron kept may not be readable, and one whose clock is ahead may have kept it for longer.
		if len(item.Value) == 0 || json.Unmarshal(item.Value, &status) != nil || status.ID != ids[i] || status.AsOf.Before(oldest) {
			missing = append(missing, ids[i])
			continue
		}
		found[status.ID] = status
	}
	return found, missing
}

func (c *Cache) failed(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.cfg.Recorder.CacheFailed()
	c.cfg.Log.DebugContext(ctx, what, "error", err)
}

// Changed says that virtual machines have changed or are gone. What is kept of them is renewed soon.
func (c *Cache) Changed(ids ...uuid.UUID) { c.load.enqueue(ids, true) }

// Renew is Changed, and waits until it is done: whoever was told of a change finds it. What keeps it from that is the cache's own affair.
func (c *Cache) Renew(ctx context.Context, id uuid.UUID) {
	b := c.load.enqueue([]uuid.UUID{id}, true)
	select {
	case <-b.done:
	case <-ctx.Done():
	}
}

// fill reads statuses and keeps them. Of those that were said to have changed and are not there, and of those that are to be deleted, it keeps only that
// PostgreSQL is to be asked: so an older status that somebody is about to keep does not come back.
func (c *Cache) fill(ctx context.Context, ids map[uuid.UUID]bool) (map[uuid.UUID]vm.Status, error) {
	begun := time.Now()
	list := make([]uuid.UUID, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	statuses, err := c.cfg.Read(ctx, list)
	if err != nil {
		return nil, err
	}
	found := make(map[uuid.UUID]vm.Status, len(statuses))
	var keep, ask []cache.Versioned
	for _, status := range statuses {
		found[status.ID] = status
		item := cache.Versioned{Key: key(status.ID), Version: status.Revision}
		if status.DesiredState == vm.DesiredDeleted {
			ask = append(ask, item)
			continue
		}
		if item.Value, err = json.Marshal(status); err != nil { // cannot happen: it is of our own types
			return nil, err
		}
		keep = append(keep, item)
	}
	for id, changed := range ids {
		if _, ok := found[id]; !ok && changed {
			ask = append(ask, cache.Versioned{Key: key(id), Version: math.MaxInt64})
		}
	}
	c.keep(ctx, TTL-time.Since(begun), keep) // it is as old as its reading
	c.keep(ctx, 2*TTL, ask)                  // longer than anything that was read before it
	return found, nil
}

func (c *Cache) keep(ctx context.Context, ttl time.Duration, items []cache.Versioned) {
	if len(items) == 0 || ttl <= 0 {
		return
	}
	if err := c.cfg.Kept.SetNewer(ctx, ttl, items...); err != nil {
		c.failed(ctx, "statuses are not kept: the cache cannot be written", err)
	}
}
