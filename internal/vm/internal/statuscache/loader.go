package statuscache

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

const (
	loadTimeout = 10 * time.Second
	// maxLoad bounds what is read at once.
	maxLoad = 500
)

// loader reads for many at once: one reading is on its way at a time, and what is asked for meanwhile is the next. Nobody gets what was read before
// they asked.
type loader struct {
	read func(ctx context.Context, ids map[uuid.UUID]bool) (map[uuid.UUID]vm.Status, error)

	mu   sync.Mutex // guards what follows
	next []*batch
	busy bool
}

// batch is what is read at once.
type batch struct {
	ids   map[uuid.UUID]bool // true: said to have changed
	done  chan struct{}      // closed once found and err are there
	found map[uuid.UUID]vm.Status
	err   error
}

// enqueue puts ids, of which there are at most maxLoad, into a batch that has not begun.
func (l *loader) enqueue(ids []uuid.UUID, changed bool) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b *batch
	if n := len(l.next); n > 0 && len(l.next[n-1].ids)+len(ids) <= maxLoad {
		b = l.next[n-1]
	} else {
		b = &batch{ids: map[uuid.UUID]bool{}, done: make(chan struct{})}
		l.next = append(l.next, b)
	}
	for _, id := range ids {
		b.ids[id] = b.ids[id] || changed
	}
	if !l.busy {
		l.busy = true
		go l.run() // ends when nothing is left to be read
	}
	return b
}

func (l *loader) get(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]vm.Status, error) {
	b := l.enqueue(ids, false)
	select {
	case <-b.done:
		return b.found, b.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *loader) run() {
	for {
		l.mu.Lock()
		if len(l.next) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		b := l.next[0]
		l.next = l.next[1:]
		l.mu.Unlock()
		b.found, b.err = l.one(b.ids)
		close(b.done)
	}
}

// one reads for all who asked, so that the end of one's request does not end it for the others.
func (l *loader) one(ids map[uuid.UUID]bool) (map[uuid.UUID]vm.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	return l.read(ctx, ids)
}
