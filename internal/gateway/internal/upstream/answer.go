package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/novacron/novacron/internal/gateway"
)

// answered notes that a process has begun to answer. Whether it can is known when the answer has ended: until then it counts as nothing. A breaker
// that is half open waits for a word, and nobody knows how long a stream is, so there the head has to do.
func (u *Upstream) answered(p *process, ctx context.Context, resp *http.Response) {
	if resp.StatusCode == http.StatusSwitchingProtocols || p.breaker.IsHalfOpen() || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		p.breaker.RecordSuccess()
		return
	}
	resp.Body = &ending{ReadCloser: resp.Body, upstream: u, process: p, ctx: ctx}
}

// ending is the body of an answer that tells how it has ended.
type ending struct {
	io.ReadCloser
	upstream *Upstream
	process  *process
	ctx      context.Context //nolint:containedctx // of the request, whose end is no failure of the process
	once     sync.Once
}

// Read implements io.Reader.
func (b *ending) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil {
		b.once.Do(func() { b.end(err) })
	}
	return n, err
}

func (b *ending) end(err error) {
	switch {
	case errors.Is(err, io.EOF):
		b.process.breaker.RecordSuccess()
	case left(b.ctx):
	default:
		b.process.breaker.RecordFailure()
		b.upstream.deps.Metrics.count(b.upstream.cfg.Name, "broken")
		b.upstream.showOpen()
	}
}

// left tells whether a request has ended for a reason that no process is to blame for: its client has gone, or the gateway stops.
func left(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), gateway.ErrTimeout)
}
