package upstream

import (
	"net/http"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// trace begins the span of one try and puts the place in the trace into the request that is sent on, in place of what the client sent.
func (u *Upstream) trace(in, out *http.Request) tracing.Span {
	ctx, span := in.Context(), tracing.Span{}
	if tracing.Recorded(ctx) {
		ctx, span = tracing.Start(ctx, tracing.Client, in.Method+" "+u.cfg.Name, tracing.String("http.request.method", in.Method),
			tracing.String("novacron.module", u.cfg.Name), tracing.String("server.address", out.URL.Host))
	}
	out.Header.Del(tracing.HeaderParent)
	out.Header.Del(tracing.HeaderState)
	tracing.Inject(ctx, out.Header.Set)
	return span
}

// endTrace ends it at the head of the answer.
func endTrace(span tracing.Span, resp *http.Response, err error) {
	if err != nil {
		span.End(gateway.ErrUpstreamAway.Wrap(err))
		return
	}
	span.Set(tracing.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusInternalServerError {
		span.Fail(http.StatusText(resp.StatusCode))
	}
	span.End(nil)
}
