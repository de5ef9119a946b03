package node

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// once makes a command that arrives twice act once: verbs like a reboot do something each time, and a controller that got no answer
// asks again with the same id. Successes are remembered for as long as the process lives and newer ones leave room.
type once struct {
	mu    sync.Mutex // guards calls and order
	calls map[uuid.UUID]*call
	order []uuid.UUID // of successes, oldest first
}

type call struct {
	done   chan struct{} // closed when answer and err are set
	answer any
	err    error
}

const remembered = 1024

func newOnce() *once { return &once{calls: map[uuid.UUID]*call{}} }

// do runs f, or waits for and answers what the same command came to before.
func (o *once) do(ctx context.Context, id uuid.UUID, f func() (any, error)) (any, error) {
	o.mu.Lock()
	if c := o.calls[id]; c != nil {
		o.mu.Unlock()
		select {
		case <-c.done:
			return c.answer, c.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	c := &call{done: make(chan struct{})}
	o.calls[id] = c
	o.mu.Unlock()
	c.answer, c.err = f()
	o.mu.Lock()
	defer o.mu.Unlock()
	close(c.done)
	if c.err != nil {
		delete(o.calls, id) // to be tried again
		return nil, c.err
	}
	if o.order = append(o.order, id); len(o.order) > remembered {
		delete(o.calls, o.order[0])
		o.order = o.order[1:]
	}
	return c.answer, nil
}
