package idempotent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// The headers of the protocol.
const (
	HeaderKey      = "Idempotency-Key"
	HeaderReplayed = "Idempotency-Replayed" // "true" on a repeated answer
)

const (
	maxKey   = 255
	maxBody  = 1 << 20 // of requests that are hashed whole and of answers that are remembered
	maxRoute = 200     // longer ones are remembered by their hash
	// storeTimeout bounds what is written after the handler, whose own context may have ended.
	storeTimeout = 10 * time.Second
)

type contextKey struct{}

// Key gives the idempotency key of the request that ctx belongs to, or "". It is qualified by the route, so that among one
// principal's requests equal keys mean the same request; it is short ASCII.
func Key(ctx context.Context) string {
	key, _ := ctx.Value(contextKey{}).(string)
	return key
}

// Middleware carries POST requests that have an Idempotency-Key out once. fail writes an error as the answer.
func Middleware(store Store, fail func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		m := &middleware{store: store, fail: fail, next: next, renewEvery: RenewEvery}
		return http.HandlerFunc(m.serve)
	}
}

type middleware struct {
	store      Store
	fail       func(http.ResponseWriter, *http.Request, error)
	next       http.Handler
	renewEvery time.Duration
}

func (m *middleware) serve(w http.ResponseWriter, r *http.Request) {
	keys, sent := r.Header[HeaderKey]
	p, known := identity.From(r.Context())
	if r.Method != http.MethodPost || !sent || !known || p.UserID == uuid.Nil {
		m.next.ServeHTTP(w, r)
		return
	}
	if len(keys) != 1 || !validKey(keys[0]) {
		m.fail(w, r, ErrKey)
		return
	}
	id := ID{Principal: p.UserID, Route: routeOf(r, p), Key: keys[0]}
	hash, err := hashOf(r)
	if err != nil { // the client broke off; the handler meets the same error and says so
		m.next.ServeHTTP(w, r)
		return
	}
	result, err := m.store.Begin(r.Context(), id, hash)
	if err != nil {
		m.fail(w, r, err)
		return
	}
	if result.Answer != nil {
		replay(w, *result.Answer)
		return
	}
	m.carryOut(w, r, id, result.Lock)
}

// carryOut runs the handler and remembers its answer before it goes out.
func (m *middleware) carryOut(w http.ResponseWriter, r *http.Request, id ID, lock uuid.UUID) {
	settled := false
	rec := newRecorder(w)
	ended := make(chan struct{})
	renewing := m.renew(r.Context(), id, lock, ended)
	defer func() { // also when the handler panics
		close(ended)
		<-renewing
		if settled {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
		defer cancel()
		if err := m.store.Abandon(ctx, id, lock); err != nil { // the lock runs out by itself
			slog.WarnContext(ctx, "idempotency key could not be given back", "route", id.Route, "error", err)
		}
	}()
	m.next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), contextKey{}, qualified(id))))
	if answer, ok := rec.answer(); ok {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
		defer cancel()
		if err := m.store.Finish(ctx, id, lock, answer); err != nil {
			// The work is done and the client is to know. A repetition finds the lock, and then what was begun.
			slog.WarnContext(ctx, "answer could not be remembered", "route", id.Route, "error", err)
		}
		settled = true
	}
	rec.send()
}

// renew keeps the lock until ended is closed; what it gives is closed when it is done.
func (m *middleware) renew(ctx context.Context, id ID, lock uuid.UUID, ended <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx = context.WithoutCancel(ctx) // the handler may go on after the client has left
		tick := time.NewTicker(m.renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			attempt, cancel := context.WithTimeout(ctx, storeTimeout)
			if err := m.store.Renew(attempt, id, lock); err != nil {
				slog.WarnContext(ctx, "lock of an idempotency key could not be renewed", "route", id.Route, "error", err)
			}
			cancel()
		}
	}()
	return done
}

func validKey(key string) bool {
	if key == "" || len(key) > maxKey {
		return false
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}

// routeOf names the route, and the tenant that is acted in where that is not the caller's own.
func routeOf(r *http.Request, p identity.Principal) string {
	route := r.Method + " " + r.URL.EscapedPath()
	if p.HomeID != uuid.Nil && p.TenantID != p.HomeID {
		route += " " + p.TenantID.String()
	}
	if len(route) > maxRoute {
		sum := sha256.Sum256([]byte(route))
		return "sha256 " + hex.EncodeToString(sum[:])
	}
	return route
}

func qualified(id ID) string {
	sum := sha256.Sum256([]byte(id.Route))
	return hex.EncodeToString(sum[:8]) + ":" + id.Key
}

// hashOf tells requests apart. A JSON body, or none, counts as it is; of any other, and of one that is too large to be held, only what
// describes it counts, because it is not to be read twice. The body can be read as before afterwards.
func hashOf(r *http.Request) ([]byte, error) {
	h := sha256.New()
	if !holdable(r) {
		describe(h, r)
		return h.Sum(nil), nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	r.Body = &readAgain{Reader: io.MultiReader(bytes.NewReader(body), &rest{from: r.Body, err: err}), Closer: r.Body}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if len(body) > maxBody {
		describe(h, r)
		return h.Sum(nil), nil
	}
	h.Write([]byte("body\n"))
	h.Write(body)
	return h.Sum(nil), nil
}

func describe(h io.Writer, r *http.Request) {
	// A hash takes every write.
	_, _ = fmt.Fprintf(h, "described\n%q %q %q %q %d", r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Content-Type"), r.ContentLength)
}

func holdable(r *http.Request) bool {
	if r.ContentLength == 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && r.ContentLength <= maxBody && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// readAgain is a body part of which has been read already.
type readAgain struct {
	io.Reader
	io.Closer
}

// rest goes on with a body, or repeats the error that reading it met.
type rest struct {
	from io.Reader
	err  error
}

func (r *rest) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.from.Read(p)
}

func replay(w http.ResponseWriter, a Answer) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.Header().Set(HeaderReplayed, "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client may be gone; there is nobody to tell
}
