package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// tendEvery is how often keys are looked after. What is due a little later is done a little later.
const tendEvery = 10 * time.Minute

// The permissions on signing keys.
const (
	signingKeyRead   = "signing-key:read"
	signingKeyRotate = "signing-key:rotate"
)

// SigningKeys tells of the keys that sign access tokens, newest first.
func (s *Service) SigningKeys(p identity.Principal) ([]token.KeyInfo, error) {
	if !p.AllowsPlatform(signingKeyRead) {
		return nil, platformOnly(signingKeyRead)
	}
	return s.Ring.Keys(), nil
}

// RotateKeys makes the next signing key. At once means that it signs now, and that no token of an older key is good any more.
func (s *Service) RotateKeys(ctx context.Context, p identity.Principal, atOnce bool) ([]token.KeyInfo, error) {
	if !p.AllowsPlatform(signingKeyRotate) {
		return nil, platformOnly(signingKeyRotate)
	}
	if err := s.Ring.Rotate(atOnce); err != nil {
		return nil, fmt.Errorf("rotate signing keys: %w", err)
	}
	if atOnce {
		s.tokens.entries.InvalidateAll()
	}
	s.Log.InfoContext(ctx, "signing keys rotated", "at_once", atOnce, "keys", len(s.Ring.Keys()), "by", p.UserID.String())
	s.tell(ctx, event.Auth{Type: event.AuthKeysRotated, TenantID: p.TenantID})
	return s.Ring.Keys(), nil
}

// refreshKeys reads the keys again, because another process may have changed them. What was verified with a key that is gone is forgotten.
func (s *Service) refreshKeys(ctx context.Context) {
	lost, err := s.Ring.Reload()
	if err != nil {
		s.Log.WarnContext(ctx, "the signing keys could not be read again", "error", err)
	}
	if lost || err != nil {
		s.tokens.entries.InvalidateAll()
	}
}

// tendKeys makes the next signing key when the newest is old, and removes those that no token names any more, until ctx ends.
func (s *Service) tendKeys(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		changed, err := s.Ring.Tend()
		switch {
		case err != nil && !errors.Is(err, context.Canceled):
			s.Log.WarnContext(ctx, "signing keys could not be looked after; it will be tried again", "error", err)
		case changed:
			s.Log.InfoContext(ctx, "signing keys changed by the plan", "keys", len(s.Ring.Keys()))
			s.tell(ctx, event.Auth{Type: event.AuthKeysRotated})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
