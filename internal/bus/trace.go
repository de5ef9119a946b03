package bus

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/tracing"
)

// traceHeader makes the header that carries the trace of ctx; nil where there is none.
func traceHeader(ctx context.Context) map[string]string {
	var h map[string]string
	tracing.Inject(ctx, func(name, value string) {
		if h == nil {
			h = map[string]string{}
		}
		h[name] = value
	})
	return h
}

// traced puts the trace that a message belongs to into ctx.
func traced(ctx context.Context, m Message) context.Context {
	return tracing.FromPeer(ctx, func(name string) string { return m.Header[name] })
}

// callSpan begins the span of a request that is sent.
func callSpan(ctx context.Context, subject string) (context.Context, tracing.Span) {
	if !tracing.Recorded(ctx) {
		return ctx, tracing.Span{}
	}
	return tracing.Start(ctx, tracing.Client, "call "+kindOf(subject))
}

// serveSpan begins the span of a request that belongs to a trace. Others get none: a trace that begins in the middle tells nobody anything.
func serveSpan(ctx context.Context, m Message) (context.Context, tracing.Span) {
	if m.Header[tracing.HeaderParent] == "" {
		return ctx, tracing.Span{}
	}
	return tracing.Enter(traced(ctx, m), tracing.Server, "serve "+kindOf(m.Subject))
}

// kindOf is a subject without the ids in it, of which there is no end.
func kindOf(subject string) string {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		if _, err := uuid.Parse(token); err == nil {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}
