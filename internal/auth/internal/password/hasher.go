package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrBusy tells that too many callers wait for a password to be hashed.
var ErrBusy = errors.New("too many passwords wait to be hashed")

// Hasher hashes and checks passwords, a bounded number at once.
type Hasher struct {
	params  Params
	slots   chan struct{} // one token for each hash being computed; its capacity bounds the memory
	waiting atomic.Int64
	queue   int64
	dummy   digest // what an absent account is compared with, at the cost of a present one
}

// NewHasher makes a Hasher that computes at most concurrency hashes at once and lets at most queue callers wait.
func NewHasher(params Params, concurrency, queue int) (*Hasher, error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("argon2id: %w", err)
	}
	if concurrency < 1 || queue < 0 {
		return nil, fmt.Errorf("concurrency is %d and queue %d, must be at least 1 and 0", concurrency, queue)
	}
	return &Hasher{
		params: params, slots: make(chan struct{}, concurrency), queue: int64(queue),
		dummy: digest{params: params, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)},
	}, nil
}

// Hash gives the hash of a new password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	d := digest{params: h.params, salt: make([]byte, saltBytes)}
	if _, err := rand.Read(d.salt); err != nil {
		return "", fmt.Errorf("make salt: %w", err)
	}
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	d.key = h.params.key(password, d.salt, keyBytes)
	return d.String(), nil
}

// Verify tells whether the password is the hashed one, and whether the hash should be made anew because the parameters have changed.
// The empty hash belongs to no account; checking it costs as much as any other.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (match, outdated bool, err error) {
	d := h.dummy
	if hash != "" {
		if d, err = parse(hash); err != nil {
			return false, false, fmt.Errorf("read the stored hash: %w", err)
		}
	}
	if err := h.acquire(ctx); err != nil {
		return false, false, err
	}
	defer h.release()
	key := d.params.key(password, d.salt, uint32(len(d.key)))
	match = subtle.ConstantTimeCompare(key, d.key) == 1 && hash != ""
	return match, d.params != h.params || len(d.salt) != saltBytes || len(d.key) != keyBytes, nil
}

func (h *Hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	if h.waiting.Add(1) > h.queue {
		h.waiting.Add(-1)
		return ErrBusy
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a password to be hashed: %w", ctx.Err())
	}
}

func (h *Hasher) release() { <-h.slots }
