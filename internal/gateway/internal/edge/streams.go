package edge

import (
	"context"
	"sync"

	"github.com/novacron/novacron/internal/gateway"
)

// inflight knows the requests that are being answered, and which of them are streams that would go on for ever.
type inflight struct {
	mu       sync.Mutex // guards what follows
	draining bool
	count    int
	empty    chan struct{} // closed when draining and count is 0; nil until somebody waits
	streams  map[*exchange]struct{}
}

func (f *inflight) begin() {
	f.mu.Lock()
	f.count++
	f.mu.Unlock()
}

func (f *inflight) end(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, x)
	f.count--
	if f.count == 0 && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
}

// stream notes that a request turned out to be a stream. While draining it is ended at once.
func (f *inflight) stream(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining {
		x.end(gateway.ErrDraining)
		return
	}
	f.streams[x] = struct{}{}
}

// drain tells every stream to end, now and until resume.
func (f *inflight) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = true
	for x := range f.streams {
		x.end(gateway.ErrDraining)
	}
}

func (f *inflight) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = false
}

// wait waits until no request is being answered.
func (f *inflight) wait(ctx context.Context) error {
	f.mu.Lock()
	if f.count == 0 {
		f.mu.Unlock()
		return nil
	}
	if f.empty == nil {
		f.empty = make(chan struct{})
	}
	empty := f.empty
	f.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
