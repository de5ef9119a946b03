package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Cache is safe for concurrent use. Every method fails with ErrUnavailable, and quickly, when the cache cannot be reached. Keys are any
// bytes. A ttl must be positive; what is below a millisecond may be rounded up to one.
type Cache interface {
	// Get answers false for a key that is absent or has expired. A counter reads as decimal text. The value is the caller's own.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
	// Set keeps a value for ttl, in place of any other.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Add keeps a value for ttl unless the key is there, and tells whether it did.
	Add(ctx context.Context, key string, value []byte, ttl time.Duration) (added bool, err error)
	// Incr adds delta, which may be negative, to a counter and gives the sum. A counter begins at 0 and lives for ttl from its first
	// Incr; later ones do not prolong it. A value that is no number fails with ErrNotCounter.
	Incr(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)
	// Increment is Incr by one.
	Increment(ctx context.Context, key string, ttl time.Duration) (int64, error)
	// Delete forgets keys. Absent ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// Allow asks whether one more event of the key is within the limit, and counts it if so. A refused event costs nothing. Keys of
	// limits must not be used for anything else.
	Allow(ctx context.Context, key string, limit Limit) (Decision, error)
	// AllowAll asks whether an event is within all of several limits, and counts it with all of them or with none. It gives the decision
	// that the client should go by, and the place of the ask it belongs to: Allowed is true only where every limit has room. At most 8
	// limits can be asked, each with a key of its own. The asks are only read, so that they can be used again.
	AllowAll(ctx context.Context, asks ...Ask) (d Decision, which int, err error)
	// SetNewer keeps each item for ttl in place of one of a lower or the same version, and leaves one of a higher version as it is: who
	// writes late does not undo what was written since. Keys of versions must not be used for anything else.
	SetNewer(ctx context.Context, ttl time.Duration, items ...Versioned) error
	// GetVersioned gives what SetNewer kept for each key, in their order. One that is absent or has expired has version 0.
	GetVersioned(ctx context.Context, keys ...string) ([]Versioned, error)
	// Close lets go of connections and goroutines. It is idempotent; no other method may be called afterwards.
	Close() error
}

// The errors of a cache.
var (
	ErrUnavailable = errs.New(errs.Unavailable, "cache.unavailable", "the cache cannot be reached").
			WithAction("Check the Redis server that redis.url names.")
	ErrNotCounter = errs.New(errs.Internal, "cache.not_counter", "the cached value is not a counter, or its sum leaves 64 bits")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrUnavailable, ErrNotCounter} }

// checkTTL keeps Redis from taking 0 as "for ever".
func checkTTL(ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("time to live of a cache entry is %v, which is not positive", ttl)
	}
	return nil
}
