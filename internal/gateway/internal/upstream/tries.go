package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/identity"
)

// tries is an Upstream as a transport: it sends a request to one process after another until one answers.
type tries Upstream

// maxReplay is the size above which a body is not kept to be sent again.
const maxReplay = 64 << 10

// The waits between tries, with jitter, so that all gateways do not come back at once.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = 500 * time.Millisecond
)

// errAgain marks an answer that is worth another try.
type errAgain struct{ response *http.Response }

func (errAgain) Error() string { return "the module says that it cannot answer now" }

// RoundTrip implements http.RoundTripper.
func (t *tries) RoundTrip(r *http.Request) (*http.Response, error) {
	retries := Retries(t.cfg.Retries, retriesOf(r.Context()))
	if retries == 0 || !repeatable(r) {
		return t.once(r, nil, r.Body)
	}
	body, err := held(r)
	if err != nil {
		return nil, err
	}
	var last *http.Response
	policy := retrypolicy.NewBuilder[*http.Response]().WithMaxRetries(retries).WithBackoff(firstWait, lastWait).WithJitterFactor(0.3).
		WithBudget(t.deps.Budget).ReturnLastFailure().
		HandleIf(func(_ *http.Response, err error) bool {
			return err != nil && r.Context().Err() == nil && !errors.Is(err, circuitbreaker.ErrOpen)
		}).
		OnRetry(func(failsafe.ExecutionEvent[*http.Response]) { t.deps.Metrics.count(t.cfg.Name, "again") }).Build()
	answer, err := failsafe.With(policy).WithContext(r.Context()).Get(func() (*http.Response, error) {
		if last != nil { // an answer that was worth another try
			drain(last)
			last = nil
		}
		var from io.ReadCloser
		if body != nil {
			from = io.NopCloser(bytes.NewReader(body))
		}
		resp, err := t.once(r, body, from)
		if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			last = resp
			return nil, errAgain{resp}
		}
		return resp, err
	})
	var refused errAgain
	if errors.As(err, &refused) && last != nil { // no try helped: the module's own words say best why
		return last, nil
	}
	return answer, err
}

// once sends a request to the next process that may be asked, and to another one where it did not get as far as being sent.
func (t *tries) once(r *http.Request, body []byte, from io.ReadCloser) (resp *http.Response, err error) {
	u := (*Upstream)(t)
	list, err := u.processes.list(r.Context())
	if err != nil {
		return nil, gateway.ErrUpstreamAway.Wrap(err)
	}
	if from != nil && len(list) > 1 {
		from = io.NopCloser(from) // a try that fails closes it; whoever gave it does so in the end
	}
	err = circuitbreaker.ErrOpen
	for _, p := range list {
		if !p.breaker.TryAcquirePermit() {
			continue
		}
		resp, err = u.send(p, r, body, from)
		if err == nil || !unsent(err) || r.Context().Err() != nil {
			break
		}
	}
	u.showOpen()
	if errors.Is(err, circuitbreaker.ErrOpen) {
		u.deps.Metrics.count(u.cfg.Name, "open")
	}
	return resp, err
}

// showOpen tells the metrics whether any process may be asked.
func (u *Upstream) showOpen() {
	open := 0.0
	if _, none := u.processes.open(); none {
		open = 1
	}
	u.deps.Metrics.open.WithLabelValues(u.cfg.Name).Set(open)
}

// send sends a request to a process, whose breaker has let it through.
func (u *Upstream) send(p *process, r *http.Request, body []byte, from io.ReadCloser) (*http.Response, error) {
	ctx := r.Context()
	if r.Header.Get("Upgrade") != "" {
		ctx = forUpgrade(ctx)
	}
	out := r.Clone(ctx)
	out.URL.Host = p.url.Host
	out.Body = from
	if body != nil {
		out.ContentLength = int64(len(body))
	}
	if err := u.deps.Signer.Stamp(r, out, u.cfg.Name); err != nil {
		p.undecided() // the module is not to blame
		return nil, err
	}
	if !repeatable(r) {
		hideKeys(out.Header)
	}
	span := u.trace(r, out)
	began := time.Now()
	resp, err := u.client.RoundTrip(out)
	endTrace(span, resp, err)
	switch {
	case err != nil && left(r.Context()):
		p.undecided()
	case err != nil:
		p.breaker.RecordFailure()
		u.deps.Metrics.count(u.cfg.Name, "failed")
	default:
		u.answered(p, r.Context(), resp)
		u.deps.Metrics.count(u.cfg.Name, "answered")
		u.deps.Metrics.duration.WithLabelValues(u.cfg.Name, strconv.Itoa(resp.StatusCode)).Observe(time.Since(began).Seconds())
	}
	return resp, err
}

// hideKeys keeps the transport from sending a request again by itself, as it does on a connection that has died with what has no body and a key.
// It looks for the key by this spelling alone, and to the module all spellings are one.
func hideKeys(h http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// repeatable tells whether a request may be sent twice: reading may, what is the same when it is done twice (RFC 9110, section 9.2.2), and
// what carries a key that makes the module do it once: one that remembers keys, on a route whose answer it may remember. Its body must be small enough to be held until then.
func repeatable(r *http.Request) bool {
	if r.Header.Get("Upgrade") != "" || r.ContentLength < 0 || r.ContentLength > maxReplay {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	case http.MethodPost: // modules keep keys by who sent them, of most routes
		p, known := identity.From(r.Context())
		keyed, _ := r.Context().Value(keyedKey{}).(bool)
		return keyed && known && p.UserID != uuid.Nil && r.Header.Get("Idempotency-Key") != ""
	default:
		return false
	}
}

// held reads the body of a request, to send it more than once; nil where it has none.
func held(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(r.Body, maxReplay+1))
}

type retriesKey struct{}

// Retries is how often a request is sent again by what holds for its module and for its route, which is negative where it must not be.
func Retries(module, route int) int {
	if route < 0 {
		return 0
	}
	return max(module, route)
}

// WithRetries tells how often the request of ctx may be sent again by what holds for its route.
func WithRetries(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, retriesKey{}, n)
}

func retriesOf(ctx context.Context) int {
	n, _ := ctx.Value(retriesKey{}).(int)
	return n
}

type keyedKey struct{}

// WithKeyed says that the route of ctx does once what is sent more than once with one Idempotency-Key.
func WithKeyed(ctx context.Context) context.Context {
	return context.WithValue(ctx, keyedKey{}, true)
}

// drain reads what is left of an answer, so that its connection can be used again.
func drain(r *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxReplay))
	_ = r.Body.Close()
}

// pool lends the buffers that bodies are copied with.
type pool struct{}

//nolint:gochecknoglobals // a pool
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (pool) Get() []byte {
	b, _ := buffers.Get().(*[]byte)
	return *b
}

func (pool) Put(b []byte) { buffers.Put(&b) }
