package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Versioned is a value that only a newer one replaces. Version is positive.
type Versioned struct {
	Key     string
	Version int64
	Value   []byte
}

// versionDigits is the length of a version as it stands before its value: padded, so that the order of texts is that of numbers, which in
// Lua are exact to 53 bits only.
const versionDigits = 19

func (v Versioned) encode() []byte {
	return append(fmt.Appendf(make([]byte, 0, versionDigits+len(v.Value)), "%0*d", versionDigits, v.Version), v.Value...)
}

func decodeVersioned(key string, kept []byte) (Versioned, error) {
	if len(kept) < versionDigits {
		return Versioned{}, fmt.Errorf("the value at %q has no version", key)
	}
	version, err := strconv.ParseInt(string(kept[:versionDigits]), 10, 64)
	if err != nil {
		return Versioned{}, fmt.Errorf("the value at %q has no version: %w", key, err)
	}
	return Versioned{Key: key, Version: version, Value: kept[versionDigits:]}, nil
}

func checkVersions(ttl time.Duration, items []Versioned) error {
	for _, item := range items {
		if item.Version <= 0 {
			return fmt.Errorf("the version %d of %q is not positive", item.Version, item.Key)
		}
	}
	return checkTTL(ttl)
}

// SetNewer implements Cache.
func (m *Memory) SetNewer(_ context.Context, ttl time.Duration, items ...Versioned) error {
	if err := checkVersions(ttl, items); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, item := range items {
		if e, ok := m.get(item.Key, now); ok {
			kept, err := decodeVersioned(item.Key, e.value)
			if err != nil {
				return err
			}
			if kept.Version > item.Version {
				continue
			}
		}
		m.entries.Set(item.Key, entry{value: item.encode(), expires: now.Add(ttl)})
	}
	return nil
}

// GetVersioned implements Cache.
func (m *Memory) GetVersioned(ctx context.Context, keys ...string) ([]Versioned, error) {
	found := make([]Versioned, len(keys))
	for i, key := range keys {
		value, ok, err := m.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if found[i] = (Versioned{Key: key}); ok {
			if found[i], err = decodeVersioned(key, value); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// newerScript compares and sets on the server, all keys in one step. ARGV holds the time to live, then for each key what is to be kept, which begins with
// its version.
var newerScript = redis.NewScript(`
for i, key in ipairs(KEYS) do
  local value = ARGV[i+1]
  local kept = redis.call('GETRANGE', key, 0, ` + strconv.Itoa(versionDigits-1) + `)
  if kept <= string.sub(value, 1, ` + strconv.Itoa(versionDigits) + `) then redis.call('SET', key, value, 'PX', ARGV[1]) end
end`)

// SetNewer implements Cache, in one round trip.
func (r *Redis) SetNewer(ctx context.Context, ttl time.Duration, items ...Versioned) error {
	if err := checkVersions(ttl, items); err != nil || len(items) == 0 {
		return err
	}
	keys, args := make([]string, len(items)), make([]any, 0, 1+len(items))
	args = append(args, roundUp(ttl).Milliseconds())
	for i, item := range items {
		keys[i] = item.Key
		args = append(args, item.encode())
	}
	if err := newerScript.Run(ctx, r.client, keys, args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return unavailable("set newer", err)
	}
	return nil
}

// GetVersioned implements Cache, in one round trip.
func (r *Redis) GetVersioned(ctx context.Context, keys ...string) ([]Versioned, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	values, err := r.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, unavailable("get versions", err)
	}
	found := make([]Versioned, len(keys))
	for i, value := range values {
		text, ok := value.(string)
		if found[i] = (Versioned{Key: keys[i]}); ok {
			if found[i], err = decodeVersioned(keys[i], []byte(text)); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}
