package gatewaymodule_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authtest"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should take no time at all; the machine may be busy.
const patience = 30 * time.Second

// things is a small module with a route of every kind.
type things struct {
	kit     *httpx.API
	entered chan struct{} // one value for each request that reached a handler which then waits
	release chan struct{} // closed to let slow handlers answer
}

func (s *things) Name() string             { return "things" }
func (s *things) Routes() []httpx.Route    { return s.kit.Routes() }
func (s *things) Handler() http.Handler    { return s.kit.Handler() }
func (s *things) OpenAPI() ([]byte, error) { return s.kit.OpenAPI() }

type thing struct {
	ID    string            `json:"id" format:"uuid"`
	Name  string            `json:"name" maxLength:"300"`
	Count int               `json:"count" minimum:"0"`
	Tags  map[string]string `json:"tags,omitempty"`
}

func newThings() *things {
	s := &things{kit: httpx.New("things"), entered: make(chan struct{}, 16), release: make(chan struct{})}
	s.kit.RemembersKeys() // as far as gateways are told
	type one struct{ Body thing }
	httpx.Handle(s.kit, httpx.Op{ID: "thing-get", Method: http.MethodGet, Path: "/api/v1/things/{id}", Permission: "thing:read", Summary: "Get", Tag: "things"},
		func(_ context.Context, in *struct {
			ID string `path:"id" format:"uuid"`
		}) (*one, error) {
			return &one{Body: thing{ID: in.ID, Name: "a"}}, nil
		})
	type list struct{ Body httpx.Page[thing] }
	httpx.Handle(s.kit, httpx.Op{ID: "thing-list", Method: http.MethodGet, Path: "/api/v1/things", Permission: "thing:read", Summary: "List", Tag: "things"},
		func(_ context.Context, in *struct {
			httpx.PageParams
			Name string `query:"name" maxLength:"4000"`
			If   string `header:"If-Match"`
		}) (*list, error) {
			return &list{Body: httpx.Page[thing]{Items: []thing{{Name: in.Name + in.If}}}}, nil
		})
	httpx.Handle(s.kit, httpx.Op{ID: "thing-create", Method: http.MethodPost, Path: "/api/v1/things", Permission: "thing:write", Summary: "Make", Tag: "things"},
		func(_ context.Context, in *struct{ Body thing }) (*one, error) { return &one{Body: in.Body}, nil })
	type secret struct {
		CacheControl string `header:"Cache-Control"`
		Body         thing
	}
	httpx.Handle(s.kit, httpx.Op{ID: "thing-secret", Method: http.MethodPost, Path: "/api/v1/things/secret", Permission: "thing:write", Summary: "Make", Tag: "things"},
		func(_ context.Context, in *struct{ Body thing }) (*secret, error) {
			return &secret{CacheControl: "no-store", Body: in.Body}, nil
		})
	type who struct {
		Body struct {
			Username  string `json:"username"`
			Address   string `json:"address"`
			UserAgent string `json:"user_agent"`
			RequestID string `json:"request_id"`
		}
	}
	whoami := func(ctx context.Context, _ *struct{}) (*who, error) {
		out := &who{}
		if p, ok := identity.From(ctx); ok {
			out.Body.Username = p.Username
		}
		info := httpx.ClientInfo(ctx)
		out.Body.Address, out.Body.UserAgent, out.Body.RequestID = info.Addr.String(), info.UserAgent, httpx.RequestID(ctx)
		return out, nil
	}
	httpx.Handle(s.kit, httpx.Op{ID: "whoami", Method: http.MethodGet, Path: "/api/v1/whoami", Permission: identity.Authenticated, Summary: "Who", Tag: "things"}, whoami)
	httpx.Handle(s.kit, httpx.Op{ID: "anyone", Method: http.MethodPost, Path: "/auth/anyone", Permission: identity.Public, Summary: "Who", Tag: "things"}, whoami)
	s.raw(http.MethodGet, "/api/v1/adds", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Cache-Control", "no-transform")
		w.Header().Add("X-Request-Id", "mine")
	})
	s.raw(http.MethodGet, "/api/v1/panic", func(http.ResponseWriter, *http.Request) { panic("the handler is broken") })
	s.raw(http.MethodGet, "/api/v1/panic-late", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half of ")
		_ = http.NewResponseController(w).Flush()
		panic("the handler is broken")
	})
	s.raw(http.MethodPut, "/api/v1/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			httpx.WriteError(w, r, httpx.ErrTooLarge)
		case err != nil:
			httpx.WriteError(w, r, httpx.ErrMalformed.Wrap(err))
		default:
			_ = json.NewEncoder(w).Encode(n)
		}
	})
	s.raw(http.MethodGet, "/api/v1/slow", func(w http.ResponseWriter, r *http.Request) {
		s.entered <- struct{}{}
		select {
		case <-s.release:
			_, _ = io.WriteString(w, "done")
		case <-r.Context().Done():
			httpx.WriteError(w, r, errs.New(errs.Unavailable, "thing.cut_off", "cut off").Wrap(context.Cause(r.Context())))
		}
	})
	s.raw(http.MethodGet, "/api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_, _ = io.WriteString(w, "data: goodbye\n\n")
	})
	s.raw(http.MethodGet, "/api/v1/socket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		s.entered <- struct{}{}
		<-r.Context().Done()
		_ = c.Close(websocket.StatusGoingAway, "draining")
	})
	s.raw(http.MethodGet, "/api/v1/flood", func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for { // until the client's connection is gone
			if _, err := w.Write(chunk); err != nil {
				s.entered <- struct{}{}
				return
			}
		}
	})
	// It does as huma does with bodies: bounds the reading, and leaves the deadline behind.
	s.raw(http.MethodPost, "/api/v1/deadline", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = io.ReadAll(r.Body)
		after := time.NewTimer(time.Second)
		defer after.Stop()
		select {
		case <-r.Context().Done():
			httpx.WriteError(w, r, errs.New(errs.Unavailable, "thing.canceled", "the request was canceled"))
		case <-after.C:
			_, _ = io.WriteString(w, "done")
		}
	})
	return s
}

func (s *things) raw(method, path string, h http.HandlerFunc) {
	s.kit.Raw(httpx.Op{ID: strings.ToLower(method) + strings.ReplaceAll(path, "/", "-"), Method: method, Path: path, Permission: identity.Public,
		Summary: "Test", Tag: "things"}, httpx.RawDoc{AnswerType: "text/plain", AnswerText: "Test."}, h)
}

// door is a gateway that runs, and what is needed to knock.
type door struct {
	*gatewaymodule.Module
	things *things
	auth   *authtest.Fake
	admin  string // a token
	viewer string
	tenant uuid.UUID // of both
	reg    *prometheus.Registry
	log    *logBuffer
	url    string

	mu     sync.Mutex // guards states
	states map[string]error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (d *door) setState(name string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states[name] = err
}

func open(t testing.TB, change func(*gatewaymodule.Config, *gatewaymodule.Deps)) *door {
	t.Helper()
	d := &door{things: newThings(), auth: authtest.New(), reg: prometheus.NewRegistry(), log: &logBuffer{}, states: map[string]error{"things": nil}}
	tenant := uuid.New()
	d.tenant = tenant
	d.admin = d.auth.Issue(d.auth.AddUser("root", auth.RoleAdmin, tenant).ID, time.Hour)
	d.viewer = d.auth.Issue(d.auth.AddUser("eve", auth.RoleViewer, tenant).ID, time.Hour)
	cfg := gatewaymodule.Default()
	cfg.Listen = "127.0.0.1:0"
	deps := gatewaymodule.Deps{
		Auth: d.auth, Surfaces: []gatewaymodule.Surface{d.things}, Gatherer: d.reg, Registerer: d.reg,
		Log:   slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Build: telemetry.Build{Version: "1.2.3", Commit: "abc"}, Modules: []string{"things", "gateway"},
		Errors: append(httpx.Errors(), gatewaymodule.Errors()...),
		Readiness: func(context.Context) map[string]error {
			d.mu.Lock()
			defer d.mu.Unlock()
			all := map[string]error{}
			for k, v := range d.states {
				all[k] = v
			}
			return all
		},
	}
	if change != nil {
		change(&cfg, &deps)
	}
	m, err := gatewaymodule.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	d.Module = m
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + m.Addr().String()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t *testing.T) errs.Problem {
	t.Helper()
	var p errs.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("not a problem document: %d %s %q", a.status, a.header.Get("Content-Type"), a.body)
	}
	return p
}

func (d *door) do(t testing.TB, method, path, token string, body io.Reader, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, d.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// send writes bytes as they are to a connection of their own, and reads one answer.
func (d *door) send(t *testing.T, raw string) (answer, error) {
	t.Helper()
	conn, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		return answer{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// validate gives the principal of a token.
func (d *door) validate(t testing.TB, token string) identity.Principal {
	t.Helper()
	resp, err := d.auth.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Principal
}

// key makes an API key.
func (d *door) key(t testing.TB, req auth.CreateAPIKeyRequest) auth.CreateAPIKeyResponse {
	t.Helper()
	made, err := d.auth.CreateAPIKey(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return made
}
