package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a cache that several processes share.
type Redis struct{ client *redis.Client }

var _ Cache = (*Redis)(nil)

// How long a call may take. A cache that answers later is of no use.
const (
	redisDialTimeout = 250 * time.Millisecond
	redisCallTimeout = 500 * time.Millisecond // to write, to read, and to wait for a free connection, each
)

// NewRedis makes a cache over the server of a redis://, rediss:// or unix:// URL. It connects when it is first used.
func NewRedis(url string) (*Redis, error) { return newRedis(url, redisDialTimeout, redisCallTimeout) }

func newRedis(url string, dialTimeout, callTimeout time.Duration) (*Redis, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("read redis.url: %w", err)
	}
	// The library's defaults wait seconds for a server that is away, and retry: an Incr or Allow whose answer was lost would then
	// count twice. A connection that the server closed meanwhile is noticed when it is taken from the pool, without a retry.
	opts.DialTimeout, opts.DialerRetries, opts.MaxRetries = dialTimeout, 1, -1
	opts.ReadTimeout, opts.WriteTimeout, opts.PoolTimeout = callTimeout, callTimeout, callTimeout
	opts.ContextTimeoutEnabled = true
	client := redis.NewClient(opts)
	client.AddHook(newBreaker())
	return &Redis{client: client}, nil
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
	if err := checkTTL(ttl); err != nil {
		return err
	}
	if err := r.client.Set(ctx, key, value, roundUp(ttl)).Err(); err != nil {
		return unavailable("set", err)
	}
	return nil
}

// Add implements Cache.
func (r *Redis) Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	if err := checkTTL(ttl); err != nil {
		return false, err
	}
	err := r.client.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: roundUp(ttl)}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, unavailable("add", err)
	}
	return true, nil
}

// roundUp gives the milliseconds that Redis counts in.
func roundUp(ttl time.Duration) time.Duration {
	if down := ttl.Truncate(time.Millisecond); down < ttl {
		return down + time.Millisecond
	}
	return ttl
}

// Increment implements Cache.
func (r *Redis) Increment(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	return r.Incr(ctx, key, 1, ttl)
}

// incrScript adds to a counter and gives a new one its time to live, in one step. A key without a time to live has only just been made.
// The sum is answered as text, for Lua's numbers are exact to 53 bits only.
var incrScript = redis.NewScript(`
redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])`)

// Incr implements Cache.
func (r *Redis) Incr(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	if err := checkTTL(ttl); err != nil {
		return 0, err
	}
	n, err := incrScript.Run(ctx, r.client, []string{key}, delta, roundUp(ttl).Milliseconds()).Int64()
	switch {
	case err == nil:
		return n, nil
	case isNotCounter(err):
		return 0, ErrNotCounter.Wrap(err)
	}
	return 0, unavailable("increment", err)
}

// isNotCounter knows the answers of INCRBY to a value that it cannot add to. They have no code of their own, only the text of
// shared.outofrangeerr and incrDecrCommand in the server's source.
func isNotCounter(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && (strings.Contains(err.Error(), "not an integer or out of range") || strings.Contains(err.Error(), "would overflow"))
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

// allowScript is decide on the server for every key, by the server's clock, in microseconds: ARGV holds, for each, the time that the event
// takes up and the tolerance. It answers for each whether there is room, and the time until the theoretical arrival time as it would be
// afterwards, or is where there is no room. Nothing is taken unless there is room with all.
var allowScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answer, all = {}, true
for i, key in ipairs(KEYS) do
  local tat = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
  local cost, tolerance = tonumber(ARGV[2*i-1]), tonumber(ARGV[2*i])
  local room = 1
  if tat + cost > tolerance then room, all = 0, false else tat = tat + cost end
  answer[2*i-1], answer[2*i] = room, tat
end
if all then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', now + answer[2*i]), 'PX', math.ceil(answer[2*i] / 1000))
  end
end
return answer`)

// Allow implements Cache. It is one round trip: the script is known to the server after its first use.
func (r *Redis) Allow(ctx context.Context, key string, limit Limit) (Decision, error) {
	d, _, err := r.AllowAll(ctx, Ask{Key: key, Limit: limit})
	return d, err
}

// AllowAll implements Cache, in one round trip.
func (r *Redis) AllowAll(ctx context.Context, asks ...Ask) (Decision, int, error) {
	if err := checkAsks(asks); err != nil {
		return Decision{}, 0, err
	}
	keys, args := make([]string, len(asks)), make([]any, 0, 2*len(asks))
	for i, a := range asks {
		keys[i] = a.Key
		args = append(args, a.cost().Microseconds(), a.Limit.tolerance().Microseconds())
	}
	answer, err := allowScript.Run(ctx, r.client, keys, args...).Int64Slice()
	if err != nil {
		return Decision{}, 0, unavailable("allow", err)
	}
	decisions := make([]Decision, len(asks))
	for i, a := range asks {
		decisions[i] = decision(time.Duration(answer[2*i+1])*time.Microsecond, answer[2*i] == 1, a)
	}
	i := tightest(decisions)
	return decisions[i], i, nil
}

// Close implements Cache.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close connections to Redis: %w", err)
	}
	return nil
}
