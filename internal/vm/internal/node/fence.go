package node

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// fence lets one command at a time work on a virtual machine. A newer intent cuts an older one short and waits until it is out;
// commands of the same generation take turns.
type fence struct {
	mu    sync.Mutex // guards slots and all in them
	slots map[uuid.UUID]*slot
}

type slot struct {
	newest int64 // generation that was asked for last
	holder *turn // nil while nobody works
	users  int   // holder and those that wait
}

type turn struct {
	generation int64
	cancel     context.CancelCauseFunc
	done       chan struct{} // closed at the end of the turn
}

func newFence() *fence { return &fence{slots: map[uuid.UUID]*slot{}} }

// enter waits for the turn of a command. The context that it answers ends with the cause ErrStaleGeneration when a newer command
// comes; leave ends the turn.
func (f *fence) enter(ctx context.Context, vm uuid.UUID, generation int64) (turnCtx context.Context, leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[vm]
	if s == nil {
		s = &slot{}
		f.slots[vm] = s
	}
	if generation < s.newest {
		return nil, nil, nodeapi.ErrStaleGeneration
	}
	s.newest = generation
	s.users++
	if s.holder != nil && s.holder.generation < generation {
		s.holder.cancel(nodeapi.ErrStaleGeneration)
	}
	for s.holder != nil {
		done := s.holder.done
		f.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		f.mu.Lock()
		if err == nil && generation < s.newest {
			err = nodeapi.ErrStaleGeneration
		}
		if err != nil {
			f.drop(vm, s)
			return nil, nil, err
		}
	}
	turnCtx, cancel := context.WithCancelCause(ctx)
	s.holder = &turn{generation: generation, cancel: cancel, done: make(chan struct{})}
	return turnCtx, sync.OnceFunc(func() { f.leave(vm, s) }), nil
}

func (f *fence) leave(vm uuid.UUID, s *slot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.holder.cancel(nil)
	close(s.holder.done)
	s.holder = nil
	f.drop(vm, s)
}

// drop forgets a slot without users; the journal remembers the generation. The caller holds mu.
func (f *fence) drop(vm uuid.UUID, s *slot) {
	if s.users--; s.users == 0 {
		delete(f.slots, vm)
	}
}
