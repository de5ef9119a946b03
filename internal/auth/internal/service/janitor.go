package service

import (
	"context"
	"time"
)

const (
	pruneEvery = time.Hour
	// sessionMemory is how long ended sessions are kept: they tell from which addresses an account is known to log in.
	sessionMemory = 30 * 24 * time.Hour
	// keyMemory is how long ended API keys are kept: they tell their holders why they do not work.
	keyMemory = 30 * 24 * time.Hour
)

// prune forgets what nobody can use any more, at once and then every hour, until ctx ends.
func (s *Service) prune(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		now := s.now()
		sessions, tokens, err := s.Store.Prune(ctx, now.Add(-sessionMemory), now)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.WarnContext(ctx, "ended sessions could not be forgotten; it will be tried again", "error", err)
		case sessions+tokens > 0:
			s.Log.DebugContext(ctx, "forgot ended sessions", "sessions", sessions, "refresh_tokens", tokens)
		}
		if keys, err := s.Store.PruneAPIKeys(ctx, now.Add(-keyMemory)); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "ended API keys could not be forgotten; it will be tried again", "error", err)
		} else if keys > 0 {
			s.Log.DebugContext(ctx, "forgot ended API keys", "count", keys)
		}
		if err := s.Store.PruneWaiting(ctx, now); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "logins and links that have ended could not be forgotten; it will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
