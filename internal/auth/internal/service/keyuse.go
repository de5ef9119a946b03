package service

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth/internal/store"
)

const (
	// useGrain is how long the use of a key is not noted again.
	useGrain = 5 * time.Second
	// useEvery is the least time between two writings.
	useEvery = 5 * time.Second
	// maxUses bounds what waits to be written while the database does not answer.
	maxUses = 100_000
	// useTimeout bounds one writing.
	useTimeout = 10 * time.Second
)

// useLog gathers the last use of API keys, so that no request writes. What it holds is lost when the process is killed: some seconds.
type useLog struct {
	mu      sync.Mutex // guards pending
	pending map[uuid.UUID]store.APIKeyUse
	wake    chan struct{} // holds one: there is something to write
}

func newUseLog() *useLog {
	return &useLog{pending: map[uuid.UUID]store.APIKeyUse{}, wake: make(chan struct{}, 1)}
}

// note remembers a use to be written.
func (l *useLog) note(id uuid.UUID, use store.APIKeyUse) {
	l.mu.Lock()
	if old, known := l.pending[id]; (known || len(l.pending) < maxUses) && !old.At.After(use.At) {
		l.pending[id] = use
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (l *useLog) take() map[uuid.UUID]store.APIKeyUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.pending
	l.pending = map[uuid.UUID]store.APIKeyUse{}
	return taken
}

// writeUses writes the uses of API keys, the first at once and then at most every useEvery, until ctx ends; what is left then is written as well.
func (s *Service) writeUses(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	pause := time.NewTimer(useEvery)
	defer pause.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.uses.wake:
			s.flushUses(ctx)
			pause.Reset(useEvery)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
		}
	}
	s.flushUses(context.WithoutCancel(ctx))
}

func (s *Service) flushUses(ctx context.Context) {
	uses := s.uses.take()
	if len(uses) == 0 {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, useTimeout)
	defer cancel()
	if err := s.Store.TouchAPIKeys(bounded, uses); err != nil {
		for id, use := range uses {
			s.uses.note(id, use)
		}
		if ctx.Err() != nil { // it is written when the loop has ended
			return
		}
		s.Log.WarnContext(ctx, "the last use of API keys could not be written; it will be tried again", "error", err, "count", len(uses))
	}
}
