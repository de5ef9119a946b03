package edge

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// finish logs and measures the request.
func (e *Edge) finish(ctx context.Context, w *writer, x *exchange) {
	status, service, endpoint, quiet := w.status, "gateway", telemetry.Unmatched, false
	if status == 0 { // net/http answers 200 for a handler that wrote nothing; a client that left gets no answer
		status = http.StatusOK
		if ctx.Err() != nil {
			status = statusClientClosed
		}
	}
	if x.entry != nil {
		service, endpoint, quiet = x.entry.module, x.entry.Path, x.entry.quiet
	}
	took := time.Since(x.began)
	code := httpx.ProblemCode(ctx)
	e.deps.Metrics.Observe(ctx, service, x.method, endpoint, status, code, took)
	x.leave(service, endpoint, status, code)

	level := slog.LevelInfo
	switch {
	case quiet && status < http.StatusInternalServerError, quiet && status == http.StatusServiceUnavailable:
		level = slog.LevelDebug
	case status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	if !e.deps.Log.Enabled(ctx, level) {
		return
	}
	// The query stays out: it may hold tickets and what people search for.
	client := httpx.ClientInfo(ctx)
	var space [16]slog.Attr // as many as there can be
	attrs := append(space[:0],
		slog.String("request_id", httpx.RequestID(ctx)), slog.String("method", x.method), slog.String("path", httpx.InstancePath(ctx)),
		slog.String("route", endpoint), slog.String("service", service), slog.Int("status", status), slog.Int64("bytes", w.bytes),
		slog.Duration("duration", took), slog.String("remote", remoteOf(client)), slog.String("user_agent", client.UserAgent))
	if x.known {
		attrs = append(attrs, slog.String("user_id", x.principal.UserID.String()), slog.String("tenant_id", x.principal.TenantID.String()))
		if x.principal.APIKeyID != uuid.Nil {
			attrs = append(attrs, slog.String("api_key_id", x.principal.APIKeyID.String()))
		}
	}
	if x.entry != nil && x.entry.url != "" {
		attrs = append(attrs, slog.String("upstream", x.entry.url))
	}
	if code != "" {
		attrs = append(attrs, slog.String("code", code))
	}
	e.deps.Log.LogAttrs(ctx, level, "request", attrs...)
}

// statusClientClosed is what logs and metrics show for a request whose client left before there was an answer.
const statusClientClosed = 499

func remoteOf(c httpx.Client) string {
	if c.Addr.IsValid() {
		return c.Addr.String()
	}
	return ""
}
