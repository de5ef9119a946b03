package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/cors"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/internal/encode"
	"github.com/novacron/novacron/internal/gateway/internal/keep"
	"github.com/novacron/novacron/internal/gateway/internal/limit"
	"github.com/novacron/novacron/internal/gateway/internal/policy"
	"github.com/novacron/novacron/internal/gateway/internal/upstream"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// Config bounds what clients may do.
type Config struct {
	MaxUploadBytes int64         // the most bytes any body may have; a route may allow less
	ReadStall      time.Duration // a body whose bytes stop coming for so long ends the request
	WriteStall     time.Duration // a client that takes nothing for so long loses the connection
}

// Deps are what the edge stands on.
type Deps struct {
	Auth    Authenticator
	Load    *Load // may be nil: nothing is refused for load
	Encoder *encode.Encoder
	Keeper  *keep.Keeper // may be nil: no answer is kept
	Metrics *telemetry.HTTP
	Log     *slog.Logger
	Audit   *audit.Recorder // of requests that are refused here; may be nil
}

// State is what can change while requests are served. A request sees one State from beginning to end.
type State struct {
	Table   *Table
	Limits  *limit.Limiter // may be nil: nothing is limited
	Timeout time.Duration  // of routes that have none of their own; 0: none
	CORS    *cors.Cors     // may be nil: no page of another origin may read answers
	Proxies []netip.Prefix // that stand before the gateway, and are believed whom they were asked by
	HSTS    string         // value of Strict-Transport-Security; empty: it is not sent
}

// Edge serves requests. It is safe for concurrent use.
type Edge struct {
	cfg      Config
	deps     Deps
	state    atomic.Pointer[State]
	inflight inflight
}

// New makes an Edge. It serves once SetState was called.
func New(cfg Config, deps Deps) *Edge {
	return &Edge{cfg: cfg, deps: deps, inflight: inflight{streams: map[*writer]context.CancelCauseFunc{}}}
}

// SetState lets later requests be served by another State. Those that are being answered go on with theirs.
func (e *Edge) SetState(state State) { e.state.Store(&state) }

// Drain tells streams to end, those that are open and those that still begin. Other requests are answered as usual.
func (e *Edge) Drain() { e.inflight.drain() }

// Resume takes Drain back.
func (e *Edge) Resume() { e.inflight.resume() }

// Wait waits until no request is being answered, websockets included.
func (e *Edge) Wait(ctx context.Context) error { return e.inflight.wait(ctx) }

// exchange is what is known of one request when it is over.
type exchange struct {
	began     time.Time
	method    string // as the client sent it
	entry     *entry // nil: no route matched
	principal identity.Principal
	known     bool // principal is valid
	span      tracing.Span
	stages    stages // how long what came before the module took
	panicked  any    // what the handler panicked with
	stack     []byte // where; set before where that was in another goroutine
}

// ServeHTTP implements http.Handler.
func (e *Edge) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	x := &exchange{began: time.Now(), method: r.Method}
	state := e.state.Load()
	ctx, cancel := context.WithCancelCause(contextOf(r, state.Proxies))
	defer cancel(nil)
	ctx, x.span = enter(ctx, r)
	r = r.WithContext(ctx)
	stdHeaders(rw.Header(), httpx.RequestID(ctx))
	if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		// The server has dropped a Content-Length that came beside it. Whoever stands before us may have gone by that one, and take what is left
		// for somebody else's request (RFC 9112, section 6.3): so nothing more is read from this connection.
		rw.Header()["Connection"] = []string{"close"}
	}

	w := &writer{ResponseWriter: rw, ctl: http.NewResponseController(rw), stall: e.cfg.WriteStall, hasBody: r.Body != nil && r.Body != http.NoBody}
	endStream := func() {}
	w.onStream = func(kind string) {
		endStream = e.deps.Metrics.Stream("gateway", kind)
		e.inflight.stream(w, cancel)
	}
	if r.Method == http.MethodHead {
		w.head = func() { cancel(errors.New("a HEAD request has no body to stream")) }
	}
	if w.hasBody {
		limited := r.Body
		if e.cfg.MaxUploadBytes > 0 {
			limited = http.MaxBytesReader(rw, r.Body, e.cfg.MaxUploadBytes)
		}
		r.Body = &body{ReadCloser: limited, w: w, stall: e.cfg.ReadStall}
	}

	e.inflight.begin()
	func() {
		defer func() {
			if x.panicked = recover(); x.panicked != nil && x.stack == nil {
				x.stack = debug.Stack()
			}
		}()
		e.serve(state, w, r, x)
	}()
	endStream()
	incomplete := x.panicked != nil && !e.answerPanic(w, r, x)
	e.finish(w, r, x)
	w.renew() // for what is still in the server's buffer
	e.inflight.end(w)
	if incomplete {
		panic(http.ErrAbortHandler) // the server cuts the connection, which is how the client sees it
	}
}

// serve checks, routes and authenticates a request, lets it in if the limits allow it, and hands it to its module.
func (e *Edge) serve(state *State, w *writer, r *http.Request, x *exchange) {
	if state.HSTS != "" {
		w.Header()["Strict-Transport-Security"] = []string{state.HSTS}
	}
	if err := sane(r); err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	if state.CORS != nil {
		state.CORS.HandlerFunc(w, r)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			if w.status == 0 {
				w.WriteHeader(http.StatusNoContent)
			}
			return
		}
		// Whoever accepts a websocket refuses pages of other origins and knows of no exceptions; a page that is let in by configuration is
		// judged here, and comes there like a program, without an origin.
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && len(r.Header["Origin"]) == 1 && state.CORS.OriginAllowed(r) {
			r.Header.Del("Origin")
		}
	}
	if err := checkVersion(r); err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	found, u, allowed := state.Table.route(r.Method, r.URL)
	switch {
	case found == nil && len(allowed) > 0:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		httpx.WriteError(w, r, httpx.ErrMethodNotAllowed)
		return
	case found == nil:
		if module := state.Table.unreached(r.URL.Path); module != "" {
			httpx.WriteError(w, r, gateway.ErrUpstreamAway.WithMeta("service", module))
			return
		}
		httpx.WriteError(w, r, httpx.ErrNotFound)
		return
	}
	x.entry = found
	if found.policy.Deprecated != "" {
		w.Header()["Deprecation"] = []string{found.policy.Deprecated}
	}
	if found.policy.Sunset != "" {
		w.Header()["Sunset"] = []string{found.policy.Sunset}
	}
	x.stages.edge = time.Since(x.began)
	r, cancel := withDeadline(r, found, state.Timeout)
	defer cancel()
	r, err := e.admit(state, w, r, x)
	x.stages.admit = time.Since(x.began) - x.stages.edge
	if err != nil {
		httpx.WriteError(w, r, err)
		httpx.RecordRefusal(e.deps.Audit, r, found.Route, x.known, x.principal, err)
		return
	}
	leave, err := e.deps.Load.enter(r, found, x)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	defer leave()
	if found.policy.Retries > 0 && found.url != "" {
		r = r.WithContext(upstream.WithRetries(r.Context(), found.policy.Retries))
	}
	r.URL = u // r is the edge's own copy
	if found.Method != r.Method {
		r.Method = found.Method // HEAD, answered by GET; the server drops the body
	}
	e.answer(w, r, x)
	e.forget(w, r, x)
}

// forget makes kept answers old that a change may have touched, so that whoever made it sees it (RFC 9111, section 4.4). Events tell of what
// comes later, of what others do, and to other gateways; not everything that changes has one.
func (e *Edge) forget(w *writer, r *http.Request, x *exchange) {
	if e.deps.Keeper == nil || !x.known || w.status >= http.StatusBadRequest || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return
	}
	if x.principal.Scope == identity.ScopePlatform { // it may have been about anybody
		e.deps.Keeper.ForgetAll(uuid.NewString())
		return
	}
	e.deps.Keeper.Forget(x.principal.TenantID, uuid.NewString())
}

// admit finds out who asks, and whether there is room for the request and the caller may make it. It gives the request with the caller in
// its context, also beside an error.
func (e *Edge) admit(state *State, w *writer, r *http.Request, x *exchange) (*http.Request, error) {
	ctx, found := r.Context(), x.entry
	who := limit.Caller{Addr: httpx.ClientInfo(ctx).Addr}
	if !found.public {
		p, known, err := e.authenticateSoon(state, r)
		if err != nil {
			if state.Limits != nil && errs.From(err).Kind == errs.Unauthenticated {
				if limited := state.Limits.TakeRefused(ctx, w.Header(), who.Addr); limited != nil {
					return r, limited
				}
			}
			return r, err
		}
		if known {
			x.principal, x.known = p, true
			who.User, who.Key, who.Tenant = p.UserID, p.APIKeyID, p.TenantID
			ctx = identity.With(ctx, p)
			r = r.WithContext(ctx)
		}
	}
	if state.Limits != nil && !found.quiet {
		if err := state.Limits.Take(ctx, w.Header(), &found.policy, who, cost(found, r)); err != nil {
			return r, err
		}
	}
	if found.policy.AuthRequired && !x.known {
		return r, httpx.ErrUnauthenticated
	}
	for _, permission := range found.policy.Permissions {
		if err := httpx.Authorize(ctx, permission, found.Owned); err != nil {
			return r, err
		}
	}
	return r, nil
}

// authenticateSoon bounds authenticate where the answer may take as long as it takes: finding out who asks is no part of that.
func (e *Edge) authenticateSoon(state *State, r *http.Request) (identity.Principal, bool, error) {
	if _, bounded := r.Context().Deadline(); bounded || state.Timeout == 0 {
		return e.authenticate(r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), state.Timeout)
	defer cancel()
	p, known, err := e.authenticate(r.WithContext(ctx))
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil {
		err = gateway.ErrTimeout.Wrap(err)
	}
	return p, known, err
}

// withDeadline ends the context of a request when its answer takes too long. Streams and requests that ask to be held take as long as they
// take.
func withDeadline(r *http.Request, found *entry, usual time.Duration) (*http.Request, context.CancelFunc) {
	d := timeLimit(found.Route, found.policy, usual)
	if d == 0 || held(found, r) {
		return r.WithContext(r.Context()), func() {} // a copy all the same: the caller changes it
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), d, gateway.ErrTimeout)
	return r.WithContext(ctx), cancel
}

// timeLimit is how long an answer on a route may take; 0: as long as it takes.
func timeLimit(route httpx.Route, p policy.Policy, usual time.Duration) time.Duration {
	if p.Timeout == 0 && !route.Raw {
		return usual
	}
	return p.Timeout
}

// held tells whether a request asks for its answer to be held back until work is done. Only some routes do that: elsewhere the words would
// be nothing but a way around the limits of time and load.
func held(found *entry, r *http.Request) bool {
	if !found.Holds {
		return false
	}
	return strings.Contains(r.URL.RawQuery, "wait=") || strings.Contains(r.Header.Get("Prefer"), "wait")
}

// answerPanic answers for a handler that panicked. It tells whether the client has a whole answer.
func (e *Edge) answerPanic(w *writer, r *http.Request, x *exchange) bool {
	ctx := r.Context()
	if err, ok := x.panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		if w.status != 0 || x.entry == nil || x.entry.url == "" || ctx.Err() != nil {
			return false
		}
		// The other process died within its answer, of which the client has seen nothing yet.
		clearAnswer(w.Header())
		httpx.WriteError(w, r, gateway.ErrUpstreamAway.WithMeta("service", x.entry.module))
		return true
	}
	e.deps.Log.ErrorContext(ctx, "handler panicked", "panic", fmt.Sprint(x.panicked), "stack", string(x.stack),
		"method", x.method, "path", httpx.InstancePath(ctx))
	if w.status != 0 {
		return false
	}
	clearAnswer(w.Header())
	httpx.WriteError(w, r, errs.ErrInternal.Wrap(fmt.Errorf("panic: %v", x.panicked)))
	return true
}

// clearAnswer drops what a handler meant to answer and does not fit any more.
func clearAnswer(h http.Header) {
	for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Disposition", "Content-Range", "Etag", "Last-Modified", "Location", "Set-Cookie"} {
		h.Del(name)
	}
}

// finish logs and measures the request.
func (e *Edge) finish(w *writer, r *http.Request, x *exchange) {
	ctx := r.Context()
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
	attrs := []slog.Attr{
		slog.String("request_id", httpx.RequestID(ctx)), slog.String("method", x.method), slog.String("path", httpx.InstancePath(ctx)),
		slog.String("route", endpoint), slog.String("service", service), slog.Int("status", status), slog.Int64("bytes", w.bytes),
		slog.Duration("duration", took), slog.String("remote", remoteOf(ctx)), slog.String("user_agent", httpx.ClientInfo(ctx).UserAgent),
	}
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

func remoteOf(ctx context.Context) string {
	if addr := httpx.ClientInfo(ctx).Addr; addr.IsValid() {
		return addr.String()
	}
	return ""
}

// contextOf makes the context of a request: its id, its path as the client wrote it, the client and the trace.
func contextOf(r *http.Request, proxies []netip.Prefix) context.Context {
	path := r.URL.Path
	if len(path) > maxShownPath {
		path = path[:maxShownPath]
	}
	ctx := httpx.WithRequest(r.Context(), requestID(r.Header), strings.ToValidUTF8(path, "\uFFFD"))
	info := httpx.Client{Addr: clientAddr(r, proxies), UserAgent: r.UserAgent()}
	return tracing.FromClient(httpx.WithClientInfo(ctx, info), r.Header.Get)
}

// maxShownPath is how much of a path goes into logs and problems.
const maxShownPath = 1024

// requestID takes the client's id where it is a sane one, so that logs of both sides can be matched, and makes one otherwise.
func requestID(h http.Header) string {
	if list := h["X-Request-Id"]; len(list) == 1 && saneID(list[0]) {
		return list[0]
	}
	id, err := uuid.NewV7()
	if err != nil { // cannot happen: crypto/rand never fails
		return uuid.Nil.String()
	}
	return id.String()
}

func saneID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// stdHeaders are in every answer. Handlers may replace them: pages for browsers bring their own policy.
func stdHeaders(h http.Header, id string) {
	h["Api-Version"] = []string{gateway.APIVersion}
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["X-Frame-Options"] = []string{"DENY"}
	h["Referrer-Policy"] = []string{"no-referrer"}
	h["Content-Security-Policy"] = []string{"default-src 'none'; frame-ancestors 'none'"}
	h["Cache-Control"] = []string{"no-store"}
}
