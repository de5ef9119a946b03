package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a cache that several processes share.
type Redis struct{ client *redis.Client }

var _ Cache = (*Redis)(nil)

// redisTimeout bounds every call: a cache that answers later than that is of no use.
const redisTimeout = 250 * time.Millisecond

// NewRedis makes a cache over the server of a redis:// , rediss:// or unix:// URL. It connects when it is first used.
func NewRedis(url string) (*Redis, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("read redis.url: %w", err)
	}
	// The library's defaults wait seconds for a server that is away.
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
	opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = 1, 1, true
	return &Redis{client: redis.NewClient(opts)}, nil
}

func unavailable(doing string, err error) error {
	return ErrUnavailable.Wrap(fmt.Errorf("%s: %w", doing, err))
}

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool, error) {
	value, err := r.client.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, false, nil
	case err != nil:
		return nil, false, unavailable("get", err)
	}
	return value, true, nil
}

// Set implements Cache.
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := r.client.Set(ctx, key, value, ttl).Err(); err != nil {
		return unavailable("set", err)
	}
	return nil
}

// Add implements Cache.
func (r *Redis) Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	err := r.client.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, unavailable("add", err)
	}
	return true, nil
}

// incrementScript adds one and gives a new counter its time to live, in one step.
var incrementScript = redis.NewScript(`
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return n`)

// Increment implements Cache.
func (r *Redis) Increment(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	n, err := incrementScript.Run(ctx, r.client, []string{key}, max(ttl.Milliseconds(), 1)).Int64()
	if err != nil {
		return 0, unavailable("increment", err)
	}
	return n, nil
}

// Delete implements Cache.
func (r *Redis) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	if err := r.client.Del(ctx, keys...).Err(); err != nil {
		return unavailable("delete", err)
	}
	return nil
}

// allowScript is decide on the server, by the server's clock, in microseconds: ARGV is the interval of one event and the tolerance. It
// answers whether the event is allowed, and the time until the theoretical arrival time as it is afterwards.
var allowScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0)
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
if tat + interval > tolerance then return {0, tat} end
tat = tat + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + tat), 'PX', math.ceil(tat / 1000))
return {1, tat}`)

// Allow implements Cache.
func (r *Redis) Allow(ctx context.Context, key string, limit Limit) (Decision, error) {
	interval := limit.interval()
	tolerance := interval * time.Duration(limit.Burst)
	answer, err := allowScript.Run(ctx, r.client, []string{key}, interval.Microseconds(), tolerance.Microseconds()).Int64Slice()
	if err != nil {
		return Decision{}, unavailable("allow", err)
	}
	tat := time.Duration(answer[1]) * time.Microsecond
	if answer[0] == 0 {
		return Decision{RetryAfter: tat + interval - tolerance, ResetAfter: tat}, nil
	}
	return Decision{Allowed: true, Remaining: int((tolerance - tat) / interval), ResetAfter: tat}, nil
}

// Close implements Cache.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close connections to Redis: %w", err)
	}
	return nil
}
