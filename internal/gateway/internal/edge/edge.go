package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
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
	return &Edge{cfg: cfg, deps: deps, inflight: inflight{streams: map[*exchange]struct{}{}}}
}

// SetState lets later requests be served by another State. Those that are being answered go on with theirs.
func (e *Edge) SetState(state State) { e.state.Store(&state) }

// Drain tells streams to end, those that are open and those that still begin. Other requests are answered as usual.
func (e *Edge) Drain() { e.inflight.drain() }

// Resume takes Drain back.
func (e *Edge) Resume() { e.inflight.resume() }

// Wait waits until no request is being answered, websockets included.
func (e *Edge) Wait(ctx context.Context) error { return e.inflight.wait(ctx) }

// ServeHTTP implements http.Handler.
func (e *Edge) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	x := &exchange{edge: e, began: time.Now(), method: r.Method}
	var ctx context.Context
	state := e.state.Load()
	ctx, x.span = enter(contextOf(r, state.Proxies), r)
	w := &x.writer
	*w = writer{ResponseWriter: rw, ctl: *http.NewResponseController(rw), x: x, stall: e.cfg.WriteStall, hasBody: r.Body != nil && r.Body != http.NoBody}
	x.stdHeaders(rw.Header(), httpx.RequestID(ctx))
	if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		// The server has dropped a Content-Length that came beside it. Whoever stands before us may have gone by that one, and take what is left
		// for somebody else's request (RFC 9112, section 6.3): so nothing more is read from this connection.
		rw.Header()["Connection"] = x.value("close")
	}

	e.inflight.begin()
	e.guarded(ctx, state, w, r, x)
	x.end(nil)
	if x.endStream != nil {
		x.endStream()
	}
	incomplete := x.panicked != nil && !e.answerPanic(ctx, w, r, x)
	e.finish(ctx, w, x)
	w.renew() // for what is still in the server's buffer
	e.inflight.end(x)
	if incomplete {
		panic(http.ErrAbortHandler) // the server cuts the connection, which is how the client sees it
	}
}

// guarded serves a request and notes a panic of its handler.
func (e *Edge) guarded(ctx context.Context, state *State, w *writer, r *http.Request, x *exchange) {
	defer func() {
		if x.panicked = recover(); x.panicked != nil && x.stack == nil {
			x.stack = debug.Stack()
		}
	}()
	e.serve(ctx, state, w, r, x)
}

// serve checks, routes and authenticates a request, lets it in if the limits allow it, and hands it to its module. r is the server's own and
// stays as it is; the module is given a copy under ctx.
func (e *Edge) serve(ctx context.Context, state *State, w *writer, r *http.Request, x *exchange) {
	if state.HSTS != "" {
		w.Header()["Strict-Transport-Security"] = x.value(state.HSTS)
	}
	refuse := func(err error) { httpx.WriteError(w, r.WithContext(ctx), err) }
	if err := sane(r); err != nil {
		refuse(err)
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
		refuse(err)
		return
	}
	found, u, allowed := state.Table.route(r.Method, r.URL)
	switch {
	case found == nil && len(allowed) > 0:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		refuse(httpx.ErrMethodNotAllowed)
		return
	case found == nil:
		if module := state.Table.unreached(r.URL.Path); module != "" {
			refuse(gateway.ErrUpstreamAway.WithMeta("service", module))
			return
		}
		refuse(httpx.ErrNotFound)
		return
	}
	x.entry = found
	if found.policy.Deprecated != "" {
		w.Header()["Deprecation"] = x.value(found.policy.Deprecated)
	}
	if found.policy.Sunset != "" {
		w.Header()["Sunset"] = x.value(found.policy.Sunset)
	}
	x.stages.edge = time.Since(x.began)
	if d := timeLimit(found.Route, found.policy, state.Timeout); d > 0 && !held(found, r) {
		ctx, x.stop = context.WithTimeoutCause(ctx, d, gateway.ErrTimeout)
	}
	ctx, err := e.admit(ctx, state, w, r, x)
	x.stages.admit = time.Since(x.began) - x.stages.edge
	if err != nil {
		refuse(err)
		httpx.RecordRefusal(e.deps.Audit, r.WithContext(ctx), found.Route, x.known, x.principal, err)
		return
	}
	leave, err := e.deps.Load.enter(ctx, r, found, x)
	if err != nil {
		refuse(err)
		return
	}
	defer leave()
	e.answer(w, e.handover(ctx, w, r, u, x), x)
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

// admit finds out who asks, and whether there is room for the request and the caller may make it. It gives the context with the caller in
// it, also beside an error.
func (e *Edge) admit(ctx context.Context, state *State, w *writer, r *http.Request, x *exchange) (context.Context, error) {
	found := x.entry
	who := limit.Caller{Addr: httpx.ClientInfo(ctx).Addr}
	if !found.public {
		p, known, err := e.authenticateSoon(ctx, state, r)
		if err != nil {
			if state.Limits != nil && errs.From(err).Kind == errs.Unauthenticated {
				if limited := state.Limits.TakeRefused(ctx, w.Header(), who.Addr); limited != nil {
					return ctx, limited
				}
			}
			return ctx, err
		}
		if known {
			x.principal, x.known = p, true
			who.User, who.Key, who.Tenant = p.UserID, p.APIKeyID, p.TenantID
			ctx = identity.With(ctx, p)
		}
	}
	if state.Limits != nil && !found.quiet {
		if err := state.Limits.Take(ctx, w.Header(), &found.policy, who, cost(found, r)); err != nil {
			return ctx, err
		}
	}
	if found.policy.AuthRequired && !x.known {
		return ctx, httpx.ErrUnauthenticated
	}
	for _, permission := range found.policy.Permissions {
		if err := httpx.Authorize(ctx, permission, found.Owned); err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// authenticateSoon bounds authenticate where the answer may take as long as it takes: finding out who asks is no part of that.
func (e *Edge) authenticateSoon(ctx context.Context, state *State, r *http.Request) (identity.Principal, bool, error) {
	if _, bounded := ctx.Deadline(); bounded || state.Timeout == 0 {
		return e.authenticate(ctx, r)
	}
	soon, cancel := context.WithTimeout(ctx, state.Timeout)
	defer cancel()
	p, known, err := e.authenticate(soon, r)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		err = gateway.ErrTimeout.Wrap(err)
	}
	return p, known, err
}

// handover makes the request that the module is given: under the URL and the method by which it knows the route, with a body that is bounded,
// and with a context that ends when the process wants to end.
func (e *Edge) handover(ctx context.Context, w *writer, r *http.Request, u *url.URL, x *exchange) *http.Request {
	found := x.entry
	if found.Raw || r.Method == http.MethodHead { // what may turn out to be a stream
		ctx, x.cancel = context.WithCancelCause(ctx)
	}
	if found.policy.Retries != 0 && found.url != "" {
		ctx = upstream.WithRetries(ctx, found.policy.Retries)
	}
	if found.Keyed && found.url != "" {
		ctx = upstream.WithKeyed(ctx)
	}
	own := r.WithContext(ctx)
	own.URL, own.Method = u, found.Method // HEAD is answered by GET; the server drops the body
	if w.hasBody {
		limited := r.Body
		if e.cfg.MaxUploadBytes > 0 {
			limited = http.MaxBytesReader(w.ResponseWriter, r.Body, e.cfg.MaxUploadBytes)
		}
		own.Body = &body{ReadCloser: limited, w: w, stall: e.cfg.ReadStall}
	}
	return own
}

// timeLimit is how long an answer on a route may take; 0: as long as it takes. Streams have none but their route's own.
func timeLimit(route httpx.Route, p policy.Policy, usual time.Duration) time.Duration {
	if p.Timeout == 0 && !route.Raw {
		return usual
	}
	return max(p.Timeout, 0) // it may be off
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
func (e *Edge) answerPanic(ctx context.Context, w *writer, r *http.Request, x *exchange) bool {
	r = r.WithContext(ctx)
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

// contextOf makes the context of a request: its id, its path as the client wrote it, the client and the trace.
func contextOf(r *http.Request, proxies []netip.Prefix) context.Context {
	path := r.URL.Path
	if len(path) > maxShownPath {
		path = path[:maxShownPath]
	}
	ctx := httpx.WithRequest(r.Context(), requestID(r.Header), strings.ToValidUTF8(path, "\uFFFD"))
	info := httpx.Client{Addr: clientAddr(r, proxies), UserAgent: r.UserAgent()}
	ctx = httpx.WithClientInfo(ctx, info)
	if len(r.Header["Traceparent"]) == 0 { // most bring none, and to ask for it by the name that W3C gave it takes room
		return ctx
	}
	return tracing.FromClient(ctx, r.Header.Get)
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
