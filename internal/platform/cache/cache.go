// Package cache is the small cache behind sessions, throttles, status and rate limits: in process by default, Redis where
// several processes share one. What it holds may be lost at any time; the truth is elsewhere. Both implementations pass one suite.
package cache

import (
	"context"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Cache is safe for concurrent use. Every method fails with ErrUnavailable, and quickly, when the cache cannot be reached. A ttl must be
// positive.
type Cache interface {
	// Get answers false for a key that is absent or has expired. A counter reads as decimal text.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
	// Set keeps a value for ttl.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Add keeps a value for ttl unless the key is there, and tells whether it did.
	Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	// Increment adds one to a counter, which begins at 0 and lives for ttl from its first increment.
	Increment(ctx context.Context, key string, ttl time.Duration) (int64, error)
	// Delete forgets keys. Absent ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// Allow asks whether one more event of the key is within the limit, and counts it if so.
	Allow(ctx context.Context, key string, limit Limit) (Decision, error)
	// Close lets go of connections and goroutines. It is idempotent.
	Close() error
}

// Limit allows Rate events in every period Per, and Burst at once.
type Limit struct {
	Rate  int
	Per   time.Duration
	Burst int
}

// interval is the time that one event takes up.
func (l Limit) interval() time.Duration { return l.Per / time.Duration(l.Rate) }

// Decision is what a limit says to an event.
type Decision struct {
	Allowed    bool
	Remaining  int           // events that would be allowed at once now
	RetryAfter time.Duration // until one more is allowed; 0 where one is
	ResetAfter time.Duration // until the burst is whole again
}

// decide is the generic cell rate algorithm (ITU-T I.371): tat is the theoretical arrival time, relative to now, at which the next
// event would be exactly on the rate. It answers the new tat.
func decide(tat time.Duration, l Limit) (time.Duration, Decision) {
	tat = max(tat, 0)
	tolerance := l.interval() * time.Duration(l.Burst)
	next := tat + l.interval()
	if next > tolerance {
		return tat, Decision{RetryAfter: next - tolerance, ResetAfter: tat}
	}
	return next, Decision{Allowed: true, Remaining: int((tolerance - next) / l.interval()), ResetAfter: next}
}

// ErrUnavailable says that the cache cannot be reached.
var ErrUnavailable = errs.New(errs.Unavailable, "cache.unavailable", "the cache cannot be reached").
	WithAction("Check the Redis server that redis.url names.")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrUnavailable} }
