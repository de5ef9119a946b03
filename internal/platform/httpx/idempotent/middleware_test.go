package idempotent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func migrations() fs.FS {
	return fstest.MapFS{"00001_idempotency.sql": {Data: []byte("-- +goose Up\n" + idempotency.Schema)}}
}

// site is a handler behind the middleware with the real store.
type site struct {
	t     *testing.T
	h     http.Handler
	user  uuid.UUID
	calls atomic.Int32
}

func newSite(t *testing.T, handler http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, user: uuid.New()}
	store := idempotency.New(pgtest.New(t, pgtest.Schema{Name: "keys", Migrations: migrations()}).Pool("keys"))
	s.h = idempotent.Middleware(store, httpx.WriteError)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		handler(w, r)
	}))
	return s
}

type call struct {
	method, path, key, kind, body string
	anonymous                     bool
}

func (s *site) do(c call) *httptest.ResponseRecorder {
	s.t.Helper()
	if c.method == "" {
		c.method = http.MethodPost
	}
	if c.path == "" {
		c.path = "/things"
	}
	r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
	if c.key != "" {
		r.Header.Set(idempotent.HeaderKey, c.key)
	}
	if c.body != "" {
		if c.kind == "" {
			c.kind = "application/json"
		}
		r.Header.Set("Content-Type", c.kind)
	}
	if !c.anonymous {
		r = r.WithContext(identity.With(r.Context(), identity.Principal{UserID: s.user}))
	}
	w := httptest.NewRecorder()
	w.Header().Set("X-Outer", "set before")
	s.h.ServeHTTP(w, r)
	return w
}

func (s *site) wantCalls(n int32) {
	s.t.Helper()
	if got := s.calls.Load(); got != n {
		s.t.Errorf("the handler ran %d times, want %d", got, n)
	}
}

// echo answers the body, and the number of the call.
func echo(status int) (handler http.HandlerFunc) {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "/things/1")
		w.WriteHeader(status)
		_, _ = w.Write(append(b, byte('0'+n.Add(1))))
	}
}

func TestRepetitionGetsTheSameAnswer(t *testing.T) {
	s := newSite(t, echo(http.StatusAccepted))
	first := s.do(call{key: "k", body: `{"a":1}`})
	second := s.do(call{key: "k", body: `{"a":1}`, path: "/things?wait=5s"})
	s.wantCalls(1)
	if first.Code != 202 || first.Body.String() != `{"a":1}1` || first.Header().Get(idempotent.HeaderReplayed) != "" || first.Header().Get("X-Outer") == "" {
		t.Errorf("first: %d %q %v", first.Code, first.Body, first.Header())
	}
	if second.Code != 202 || second.Body.String() != first.Body.String() || second.Header().Get("Location") != "/things/1" ||
		second.Header().Get(idempotent.HeaderReplayed) != "true" {
		t.Errorf("second: %d %q %v", second.Code, second.Body, second.Header())
	}
	other := s.do(call{key: "k", body: `{"a":2}`})
	if other.Code != http.StatusConflict || !strings.Contains(other.Body.String(), idempotent.ErrMismatch.Code) {
		t.Errorf("other body: %d %s", other.Code, other.Body)
	}
	s.wantCalls(1)
	if w := s.do(call{key: "k", body: `{"a":2}`, path: "/others"}); w.Code != 202 {
		t.Errorf("another route: %d", w.Code)
	}
	s.user = uuid.New()
	if w := s.do(call{key: "k", body: `{"a":2}`}); w.Code != 202 {
		t.Errorf("another principal: %d", w.Code)
	}
	s.wantCalls(3)
}

func TestWhatPassesUntouched(t *testing.T) {
	for name, c := range map[string]call{
		"no key":    {body: "{}"},
		"GET":       {method: http.MethodGet, key: "k"},
		"anonymous": {key: "k", anonymous: true, body: "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				if idempotent.Key(r.Context()) != "" {
					t.Error("a key out of nowhere")
				}
			})
			s.do(c)
			s.do(c)
			s.wantCalls(2)
		})
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	s := newSite(t, echo(200))
	for _, key := range []string{strings.Repeat("k", 256), "a\tb", "ü", "a\x7f"} {
		w := s.do(call{key: key})
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), idempotent.ErrKey.Code) {
			t.Errorf("%q: %d %s", key, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/things", nil)
	r = r.WithContext(identity.With(r.Context(), identity.Principal{UserID: s.user}))
	for _, values := range [][]string{{""}, {"a", "a"}} {
		r.Header[idempotent.HeaderKey] = values
		w := httptest.NewRecorder()
		if s.h.ServeHTTP(w, r); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", values, w.Code)
		}
	}
	s.wantCalls(0)
	if w := s.do(call{key: strings.Repeat("~", 255)}); w.Code != 200 {
		t.Errorf("the longest key: %d", w.Code)
	}
	if w := s.do(call{key: "k", path: "/" + strings.Repeat("x", 8000) + "%00%ff"}); w.Code != 200 {
		t.Errorf("a long path with odd bytes: %d", w.Code)
	}
}

func TestWhatIsRemembered(t *testing.T) {
	problem := func(e *errs.Error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { httpx.WriteError(w, r, e) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	header := func(name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(name, value)
			w.WriteHeader(http.StatusCreated)
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kept    bool
	}{
		"201":                 {status(201), true},
		"nothing written":     {func(http.ResponseWriter, *http.Request) {}, true},
		"400":                 {problem(httpx.ErrMalformed), true},
		"404":                 {status(404), true},
		"409":                 {problem(errs.New(errs.Conflict, "t.c", "clash")), true},
		"409 retryable":       {problem(errs.New(errs.Conflict, "t.c", "clash").WithRetryable(true)), false},
		"422":                 {problem(httpx.ErrInvalid), true},
		"401":                 {status(401), false},
		"403":                 {problem(httpx.ErrForbidden), false},
		"408":                 {status(408), false},
		"423":                 {status(423), false},
		"425":                 {status(425), false},
		"429":                 {status(429), false},
		"500":                 {status(500), false},
		"503":                 {status(503), false},
		"no-store":            {header("Cache-Control", "private, No-Store"), false},
		"cookie":              {header("Set-Cookie", "s=1"), false},
		"other cache control": {header("Cache-Control", "no-cache"), true},
		"larger than we keep": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20+1)) }, false},
		"as large as we keep": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, true},
		"flushed on its way":  {func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.handler)
			first, second := s.do(call{key: "k"}), s.do(call{key: "k"})
			if first.Code != second.Code || !bytes.Equal(first.Body.Bytes(), second.Body.Bytes()) {
				t.Errorf("answers differ: %d and %d", first.Code, second.Code)
			}
			if want := map[bool]int32{true: 1, false: 2}[c.kept]; s.calls.Load() != want {
				t.Errorf("the handler ran %d times, want %d", s.calls.Load(), want)
			}
		})
	}
}

func TestUploadIsToldByItsDescription(t *testing.T) {
	s := newSite(t, echo(201))
	upload := call{key: "k", path: "/images?name=a", kind: "application/octet-stream", body: "abc"}
	if w := s.do(upload); w.Body.String() != "abc1" {
		t.Fatalf("the upload did not arrive: %q", w.Body)
	}
	upload.body = "xyz" // as long; the bytes are not looked at
	if w := s.do(upload); w.Body.String() != "abc1" {
		t.Errorf("repetition: %d %q", w.Code, w.Body)
	}
	for name, other := range map[string]call{
		"length": {path: upload.path, kind: upload.kind, body: "abcd"},
		"query":  {path: "/images?name=b", kind: upload.kind, body: "abc"},
		"type":   {path: upload.path, kind: "application/x-qcow2", body: "abc"},
	} {
		other.key = "k"
		if w := s.do(other); w.Code != http.StatusConflict {
			t.Errorf("other %s: %d", name, w.Code)
		}
	}
	s.wantCalls(1)
	large := `"` + strings.Repeat("x", 2<<20) + `"`
	if w := s.do(call{key: "l", body: large}); w.Body.String() != large+"2" {
		t.Errorf("a large JSON body did not arrive whole: %d bytes", w.Body.Len())
	}
	unsized := func() *httptest.ResponseRecorder { // a chunked body, larger than is held
		r := httptest.NewRequest(http.MethodPost, "/things", io.MultiReader(strings.NewReader(large)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(idempotent.HeaderKey, "m")
		r = r.WithContext(identity.With(r.Context(), identity.Principal{UserID: s.user}))
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, r)
		return w
	}
	if w := unsized(); w.Body.String() != large+"3" {
		t.Errorf("a large chunked body did not arrive whole: %d bytes", w.Body.Len())
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	s := newSite(t, echo(201))
	broken := errors.New("broken off")
	r := httptest.NewRequest(http.MethodPost, "/things", io.MultiReader(strings.NewReader(`{"a":`), errReader{broken}))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(idempotent.HeaderKey, "k")
	r = r.WithContext(identity.With(r.Context(), identity.Principal{UserID: s.user}))
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), broken.Error()) {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	if w := s.do(call{key: "k", body: `{"a":1}`}); w.Code != 201 {
		t.Errorf("the whole request afterwards: %d", w.Code)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestWhileItIsCarriedOut(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-goOn
	})
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- s.do(call{key: "k"}) }()
	<-begun
	if w := s.do(call{key: "k"}); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), idempotent.ErrInProgress.Code) ||
		!strings.Contains(w.Body.String(), `"retryable":true`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	close(goOn)
	<-done
	if w := s.do(call{key: "k"}); w.Code != 200 || w.Header().Get(idempotent.HeaderReplayed) != "true" {
		t.Errorf("afterwards: %d", w.Code)
	}
	s.wantCalls(1)
}

func TestPanicForgets(t *testing.T) {
	first := true
	s := newSite(t, func(http.ResponseWriter, *http.Request) {
		if first {
			first = false
			panic("oops")
		}
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		s.do(call{key: "k"})
	}()
	if w := s.do(call{key: "k"}); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
	s.wantCalls(2)
}

func TestKeyIsQualifiedByRoute(t *testing.T) {
	keys := map[string]bool{}
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { keys[idempotent.Key(r.Context())] = true })
	s.do(call{key: "k", path: "/vms/a/start"})
	s.do(call{key: "k", path: "/vms/b/start"})
	s.do(call{key: "k2", path: "/vms/b/start"})
	if len(keys) != 3 || keys[""] {
		t.Errorf("got %v", keys)
	}
	for key := range keys {
		if !strings.HasSuffix(key, ":k") && !strings.HasSuffix(key, ":k2") {
			t.Errorf("the client's key is not to be seen in %q", key)
		}
	}
	if idempotent.Key(context.Background()) != "" {
		t.Error("a key without a request")
	}
}
