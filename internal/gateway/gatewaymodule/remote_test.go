package gatewaymodule_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/pki"
)

// authority is the certificate authority of a test, with the certificates of a gateway, a module and a stranger.
type authority struct {
	dir string
	ca  string
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "gateway"}, {Name: "module", Hosts: []string{"127.0.0.1"}}, {Name: "stranger"}} {
		if _, _, err := ca.IssueTo(dir, req); err != nil {
			t.Fatal(err)
		}
	}
	return authority{dir: dir, ca: filepath.Join(dir, "ca.crt")}
}

func (a authority) files(name string) (cert, key string) {
	return filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
}

// client is one that shows a certificate, or none.
func (a authority) client(t testing.TB, name string) *http.Client {
	t.Helper()
	pool, err := pki.Pool(a.ca)
	if err != nil {
		t.Fatal(err)
	}
	var pair *pki.Pair
	if name != "" {
		cert, key := a.files(name)
		if pair, err = pki.LoadPair(cert, key); err != nil {
			t.Fatal(err)
		}
	}
	tr := &http.Transport{TLSClientConfig: pki.ClientConfig(pair, pool)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// elsewhere runs a module's own listener.
func (a authority) elsewhere(t testing.TB, module hop.Shown, listen string) *hop.Server {
	t.Helper()
	cert, key := a.files("module")
	log := slog.New(slog.DiscardHandler)
	s, err := hop.Serve(t.Context(), hop.Config{Listen: listen, CertFile: cert, KeyFile: key, CAFile: a.ca},
		hop.Mount(module, hop.NewVerifier(module.Name(), "gateway"), log, map[string]http.Handler{
			"/ready": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stopServer(t testing.TB, s *hop.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// through opens a gateway whose module runs elsewhere.
func through(t testing.TB, a authority, svc gatewaymodule.Service, rules ...gatewaymodule.Rule) *door {
	t.Helper()
	return open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		cert, key := a.files("gateway")
		cfg.Internal = gatewaymodule.TLS{CertFile: cert, KeyFile: key, ClientCAFile: a.ca}
		cfg.Services, cfg.Routes = []gatewaymodule.Service{svc}, rules
		deps.Surfaces = nil
	})
}

// reached waits until the gateway knows the routes of the module.
func (d *door) reached(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for d.do(t, "GET", "/api/v1/things", d.admin, nil).status != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the gateway does not reach the module")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A module elsewhere answers as one in the same process does, and is told the same of the caller.
func TestModuleElsewhere(t *testing.T) {
	a := newAuthority(t)
	module := newThings()
	server := a.elsewhere(t, module, "127.0.0.1:0")
	defer stopServer(t, server)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + server.Addr().String()}})
	d.reached(t)
	local := open(t, nil)
	id := uuid.NewString()
	for _, c := range []struct {
		method, path string
		token        func(*door) string
		body         string
	}{
		{"GET", "/api/v1/things/" + id, func(d *door) string { return d.admin }, ""},
		{"GET", "/api/things/" + id, func(d *door) string { return d.admin }, ""},
		{"GET", "/api/v1/things/nonsense", func(d *door) string { return d.admin }, ""},
		{"GET", "/api/v1/things?name=a%20b&limit=3", func(d *door) string { return d.admin }, ""},
		{"GET", "/api/v1/things/" + id, func(d *door) string { return d.viewer }, ""},
		{"GET", "/api/v1/things/" + id, func(*door) string { return "" }, ""},
		{"GET", "/api/v1/things/" + id, func(*door) string { return "nonsense" }, ""},
		{"POST", "/api/v1/things", func(d *door) string { return d.admin }, `{"id":"` + id + `","name":"b","count":3}`},
		{"POST", "/api/v1/things", func(d *door) string { return d.admin }, `{"id":`},
		{"DELETE", "/api/v1/things", func(d *door) string { return d.admin }, ""},
		{"GET", "/api/v1/whoami", func(d *door) string { return d.viewer }, ""},
		{"POST", "/auth/anyone", func(d *door) string { return d.viewer }, ""},
		{"HEAD", "/api/v1/things/" + id, func(d *door) string { return d.admin }, ""},
	} {
		ask := func(d *door) answer {
			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			return d.do(t, c.method, c.path, c.token(d), body, "Content-Type", "application/json", "X-Request-ID", "the-same")
		}
		far, near := ask(d), ask(local)
		if far.status != near.status || far.body != near.body {
			t.Errorf("%s %s: elsewhere %d %s, here %d %s", c.method, c.path, far.status, far.body, near.status, near.body)
		}
		for name := range near.header {
			if name != "Date" && name != "Server-Timing" && name != "Etag" && strings.Join(far.header[name], "|") != strings.Join(near.header[name], "|") {
				t.Errorf("%s %s: header %s is %q elsewhere, %q here", c.method, c.path, name, far.header[name], near.header[name])
			}
		}
	}
	if !strings.Contains(string(d.Spec()), `"/api/v1/things/{id}"`) {
		t.Error("the module's routes are not in the document")
	}
	if !strings.Contains(d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body, `"upstream":"https://`+server.Addr().String()) {
		t.Error("the route table does not say where the module is")
	}
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, `gateway_upstream_requests_total{outcome="answered",service="things"}`) {
		t.Error("the upstream is not in the metrics")
	}
	if a := d.do(t, "GET", "/ready", "", nil); !strings.Contains(a.body, `"things":{"ready":true}`) {
		t.Errorf("readiness: %s", a.body)
	}
}

// Nobody but a gateway reaches a module's listener, and nothing a client says makes it somebody else.
func TestNobodyForgesACaller(t *testing.T) {
	a := newAuthority(t)
	server := a.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	base := "https://" + server.Addr().String()
	cert, key := a.files("gateway")
	pair, err := pki.LoadPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{base}})
	d.reached(t)
	root := func(module string) string {
		answer, err := d.auth.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: d.admin})
		if err != nil {
			t.Fatal(err)
		}
		token, err := hop.NewSigner(pair.Certificate).Sign(module, answer.Principal, true)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := root("things")
	ask := func(c *http.Client, caller ...string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/api/v1/things", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range caller {
			r.Header.Add(hop.HeaderCaller, token)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	gw := a.client(t, "gateway")
	if got := ask(gw, good); got != 200 {
		t.Errorf("the gateway itself: %d", got)
	}
	parts := strings.Split(good, ".")
	for name, got := range map[string]int{
		"no certificate":                   ask(a.client(t, ""), good),
		"another certificate":              ask(a.client(t, "stranger"), good),
		"no caller":                        ask(gw),
		"two callers":                      ask(gw, good, good),
		"meant for another module":         ask(gw, root("auth")),
		"a signature cut off":              ask(gw, parts[0]+"."+parts[1]+"."),
		"alg none":                         ask(gw, "eyJhbGciOiJub25lIn0."+parts[1]+"."),
		"claims changed":                   ask(gw, parts[0]+"."+parts[1][:len(parts[1])-2]+"AA."+parts[2]),
		"an access token instead":          ask(gw, d.admin),
		"a client that says it is a proxy": ask(gw, "root"),
	} {
		if got != http.StatusForbidden {
			t.Errorf("%s: %d", name, got)
		}
	}
	// Through the gateway the client's own headers are dropped.
	if a := d.do(t, "GET", "/api/v1/whoami", d.viewer, nil, hop.HeaderCaller, good, "X-Novacron-Client", "192.0.2.77", "X-Forwarded-For", "192.0.2.77"); !strings.Contains(a.body, `"eve"`) || strings.Contains(a.body, "192.0.2.77") {
		t.Errorf("a client that says it is somebody else: %s", a.body)
	}
}

// The table of routes tells what is in force, wherever it was said.
func TestTableOfRoutes(t *testing.T) {
	a := newAuthority(t)
	server := a.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	address := "https://" + server.Addr().String()
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{address}, Retries: 2, Failures: 3},
		gatewaymodule.Rule{Path: "/api/things/{id}", Timeout: 7 * time.Second, Retries: 1, CacheTTL: 5 * time.Second, RateLimit: "10/second", Cost: 3, Deprecated: "2026-12-31", Sunset: "2027-06-30",
			Permissions: []string{"other:read"}})
	d.reached(t)
	rows := map[string]gateway.Route{}
	var page httpx.Page[gateway.Route]
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body), &page); err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Items {
		rows[r.OperationID] = r
	}
	elsewhere := &gateway.CircuitBreaker{Failures: 3, OpenForMS: 5000}
	for _, want := range []gateway.Route{
		{Method: "GET", Path: "/api/v1/things/{id}", Module: "things", Permission: "thing:read", OperationID: "thing-get", Upstream: address, AuthRequired: true,
			Permissions: []string{"thing:read", "other:read"}, RateLimit: "10/second", Cost: 3, CacheSeconds: 5, TimeoutMS: 7000, Retries: 2, Deprecated: "2026-12-31",
			Sunset: "2027-06-30", CircuitBreaker: elsewhere, MaxInFlight: 2000},
		{Method: "POST", Path: "/api/v1/things", Module: "things", Permission: "thing:write", OperationID: "thing-create", Upstream: address, AuthRequired: true,
			Permissions: []string{"thing:write"}, Cost: 5, TimeoutMS: 60_000, Retries: 2, CircuitBreaker: elsewhere, MaxInFlight: 2000},
		{Method: "GET", Path: "/api/v1/events", Module: "things", Permission: "public", OperationID: "get-api-v1-events", Upstream: address, Permissions: []string{}, Cost: 5,
			Retries: 2, CircuitBreaker: elsewhere, MaxInFlight: 2000},
		{Method: "GET", Path: "/api/v1/gateway/routes", Module: "gateway", Permission: "gateway:read", OperationID: "gateway-route-list", Upstream: "local", AuthRequired: true,
			Permissions: []string{"gateway:read"}, Cost: 5, TimeoutMS: 60_000},
	} {
		if diff := cmp.Diff(want, rows[want.OperationID]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.OperationID, diff)
		}
	}
}

// broken is a process that speaks TLS with the module's certificate and then misbehaves.
type broken struct {
	l     net.Listener
	conns atomic.Int64
	how   atomic.Value // func(net.Conn, *http.Request)
}

func newBroken(t testing.TB, a authority) *broken {
	t.Helper()
	cert, key := a.files("module")
	pair, err := pki.LoadPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", pki.ServerConfig(pair, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := &broken{l: l}
	module := newThings()
	surface := hop.ServeSurface("things", module.Routes, module.OpenAPI)
	b.how.Store(func(c net.Conn, r *http.Request) {})
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if r.URL.Path == hop.SurfacePath {
					w := &plainWriter{c: c, h: http.Header{}}
					surface.ServeHTTP(w, r)
					return
				}
				b.conns.Add(1)
				b.how.Load().(func(net.Conn, *http.Request))(c, r)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	return b
}

// known waits until a gateway knows what it serves.
func (b *broken) known(t testing.TB, d *door) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body, "thing-get") {
		if time.Now().After(deadline) {
			t.Fatal("not reached")
		}
	}
}

// plainWriter writes one whole answer and no more.
type plainWriter struct {
	c net.Conn
	h http.Header
}

func (w *plainWriter) Header() http.Header { return w.h }
func (w *plainWriter) WriteHeader(int)     {}
func (w *plainWriter) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(w.c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(p), p)
	return len(p), err
}

func TestModulesThatMisbehave(t *testing.T) {
	a := newAuthority(t)
	b := newBroken(t, a)
	release := make(chan struct{})
	defer close(release)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + b.l.Addr().String()}, Failures: 1000},
		gatewaymodule.Rule{Path: "/api/things/*", Timeout: 400 * time.Millisecond})
	b.known(t, d)
	say := func(text string) func(net.Conn, *http.Request) {
		return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) }
	}
	for name, test := range map[string]struct {
		how    func(net.Conn, *http.Request)
		status int
		code   string
	}{
		"hangs":            {func(net.Conn, *http.Request) { <-release }, 504, gateway.ErrTimeout.Code},
		"closes":           {func(net.Conn, *http.Request) {}, 503, gateway.ErrUpstreamAway.Code},
		"speaks garbage":   {say("SSH-2.0-OpenSSH_9.2\r\n"), 503, gateway.ErrUpstreamAway.Code},
		"dies in the head": {say("HTTP/1.1 200 OK\r\nContent-Ty"), 503, gateway.ErrUpstreamAway.Code},
		"dies in the body": {say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"id\":"), 503, gateway.ErrUpstreamAway.Code},
		"dies in a chunk":  {say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\""), 503, gateway.ErrUpstreamAway.Code},
		"a head without end": {func(c net.Conn, _ *http.Request) {
			flood(c, "HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("a", 1000)+"\r\n")
		}, 503, gateway.ErrUpstreamAway.Code},
		"a broken length":            {say("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), 503, gateway.ErrUpstreamAway.Code},
		"a header with a line break": {say("HTTP/1.1 200 OK\r\nX-A: a\r b\r\nContent-Length: 0\r\n\r\n"), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.how.Store(test.how)
			got := d.do(t, "GET", aThing(), d.admin, nil)
			if test.status == 0 { // whatever it is, it must not be handed on as it came
				if strings.Contains(got.header.Get("X-A"), "\r") {
					t.Error("a line break came through")
				}
				return
			}
			if got.status != test.status || got.problem(t).Code != test.code || got.header.Get("Content-Encoding") != "" {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

func flood(c net.Conn, head, line string) {
	_, _ = io.WriteString(c, head)
	for {
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

// What can be done twice is sent again until somebody answers; what cannot is not.
func TestOnlySafeRequestsAreSentAgain(t *testing.T) {
	a := newAuthority(t)
	b := newBroken(t, a)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + b.l.Addr().String()}, Retries: 3, Failures: 1000},
		gatewaymodule.Rule{Path: "/api/whoami", Retries: gatewaymodule.Off, Timeout: gatewaymodule.Off})
	b.known(t, d)
	if text := d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body; !strings.Contains(text, `"operation_id":"whoami","upstream":"https://`+b.l.Addr().String()+`","auth_required":true,"permissions":[],"cost":1,"cache_seconds":0,"timeout_ms":0,"retries":0,`) {
		t.Errorf("the table does not tell what was taken back: %s", text)
	}
	const body = `{"id":"01930000-0000-7000-8000-000000000001","name":"b","count":3}`
	for name, test := range map[string]struct {
		method, path, body string
		header             []string
		fails              int64 // so many times
		status             int
		tries              int64
	}{
		"GET":                                 {"GET", aThing(), "", nil, 2, 200, 3},
		"GET that fails":                      {"GET", aThing(), "", nil, 100, 503, 4},
		"GET, taken back":                     {"GET", "/api/v1/whoami", "", nil, 2, 503, 1},
		"POST":                                {"POST", "/api/v1/things", body, nil, 2, 503, 1},
		"POST that has a key":                 {"POST", "/api/v1/things", body, []string{"Idempotency-Key", "k"}, 2, 200, 3},
		"POST whose answer is not remembered": {"POST", "/api/v1/things/secret", body, []string{"Idempotency-Key", "k"}, 2, 503, 1},
		"POST of nobody":                      {"POST", "/auth/anyone", "", []string{"Idempotency-Key", "k"}, 2, 503, 1},
		"upload":                              {"PUT", "/api/v1/upload", strings.Repeat("x", 100<<10), nil, 2, 503, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b.conns.Store(0)
			b.how.Store(func(c net.Conn, r *http.Request) {
				if b.conns.Load() <= test.fails {
					return
				}
				got, _ := io.ReadAll(r.Body)
				if string(got) != test.body {
					t.Errorf("the try that was answered had the body %q", got)
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			})
			got := d.do(t, test.method, test.path, d.admin, strings.NewReader(test.body), append(test.header, "Content-Type", "application/json")...)
			if got.status != test.status || b.conns.Load() != test.tries {
				t.Errorf("%d %s after %d tries", got.status, got.body, b.conns.Load())
			}
		})
	}
}

// The transport below sends by itself again what it takes for repeatable, where a connection that it kept has died: it believes any
// Idempotency-Key, and must not where the module keeps none.
func TestNothingIsSentAgainBehindTheBack(t *testing.T) {
	a := newAuthority(t)
	b := newBroken(t, a)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + b.l.Addr().String()}, Failures: 1000})
	b.known(t, d)
	var posts atomic.Int64
	b.how.Store(func(c net.Conn, r *http.Request) {
		for from := bufio.NewReader(c); r.Method != http.MethodPost; {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			var err error
			if r, err = http.ReadRequest(from); err != nil {
				return
			}
		}
		posts.Add(1)
		if r.ContentLength != 0 {
			t.Errorf("a POST without a body came with the length %d", r.ContentLength)
		}
		if key := r.Header.Get("Idempotency-Key"); key != "k" {
			t.Errorf("the key came as %q", key)
		}
	})
	if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 200 { // leaves a connection
		t.Fatalf("%d %s", got.status, got.body)
	}
	got := d.do(t, "POST", "/api/v1/things/secret", d.admin, nil, "Idempotency-Key", "k")
	if got.status != http.StatusServiceUnavailable || posts.Load() != 1 {
		t.Errorf("%d %s after %d requests", got.status, got.body, posts.Load())
	}
}

// One process of a module that is gone costs nobody an answer, also where nothing may be sent twice: what was never sent is no second time.
func TestOneOfTwoProcessesIsGone(t *testing.T) {
	a := newAuthority(t)
	server := a.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := reserved.Addr().String()
	reserved.Close()
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + gone, "https://" + server.Addr().String()}, Failures: 3, OpenFor: time.Hour})
	d.reached(t)
	const body = `{"id":"01930000-0000-7000-8000-000000000001","name":"b","count":3}`
	for i := range 20 {
		if got := d.do(t, "POST", "/api/v1/things", d.admin, strings.NewReader(body), "Content-Type", "application/json"); got.status != 200 {
			t.Fatalf("request %d: %d %s", i, got.status, got.body)
		}
		if got := d.do(t, "PUT", "/api/v1/upload", d.admin, strings.NewReader(strings.Repeat("x", 200<<10))); got.status != 200 || strings.TrimSpace(got.body) != fmt.Sprint(200<<10) {
			t.Fatalf("upload %d: %d %s", i, got.status, got.body)
		}
	}
	if got := d.do(t, "GET", "/ready", "", nil); got.status != 200 {
		t.Errorf("not ready, although one process answers: %s", got.body)
	}
}

// One that is not who it should be, as one whose certificate has run out, costs nobody an answer either.
func TestOneOfTwoProcessesIsNotTrusted(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	server, stranger := a.elsewhere(t, newThings(), "127.0.0.1:0"), other.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	defer stopServer(t, stranger)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + stranger.Addr().String(), "https://" + server.Addr().String()}, Failures: 1000})
	d.reached(t)
	const body = `{"id":"01930000-0000-7000-8000-000000000001","name":"b","count":3}`
	for i := range 10 {
		if got := d.do(t, "POST", "/api/v1/things", d.admin, strings.NewReader(body), "Content-Type", "application/json"); got.status != 200 {
			t.Fatalf("request %d: %d %s", i, got.status, got.body)
		}
	}
}

// One that takes requests and answers none is left alone soon, and the other one goes on.
func TestOneOfTwoProcessesIsBroken(t *testing.T) {
	a := newAuthority(t)
	b := newBroken(t, a)
	server := a.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + b.l.Addr().String(), "https://" + server.Addr().String()}, Failures: 3, OpenFor: time.Hour})
	b.known(t, d)
	failed := 0
	for range 40 {
		if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 200 {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d of 40 failed", failed)
	}
	if strings.Contains(d.do(t, "GET", "/metrics", "", nil).body, `gateway_upstream_breaker_open{service="things"} 1`) {
		t.Error("the module counts as away, although one process answers")
	}
}

// One whose answers break off is as one that gives none; one that answers to the end in between is not.
func TestBrokenAnswersOpenTheBreaker(t *testing.T) {
	a := newAuthority(t)
	b := newBroken(t, a)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + b.l.Addr().String()}, Failures: 3, OpenFor: time.Hour})
	b.known(t, d)
	const whole = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
	const half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{"
	ask := func(text string) int64 {
		b.how.Store(func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, text) })
		before := b.conns.Load()
		d.do(t, "GET", aThing(), d.admin, nil)
		return b.conns.Load() - before
	}
	for i, text := range []string{half, half, whole, half, half, half} {
		if ask(text) != 1 {
			t.Fatalf("request %d was not sent", i)
		}
	}
	if ask(whole) != 0 {
		t.Error("after three answers that broke off the process is still asked")
	}
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, `gateway_upstream_requests_total{outcome="broken",service="things"} 5`) || !strings.Contains(text, `gateway_upstream_breaker_open{service="things"} 1`) {
		t.Error("the metrics do not tell")
	}
}

// A module that does not answer is left alone for a while; when it is back, so are its answers.
func TestBreakerOpensAndCloses(t *testing.T) {
	a := newAuthority(t)
	module := newThings()
	server := a.elsewhere(t, module, "127.0.0.1:0")
	address := server.Addr().String()
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + address}, Failures: 3, OpenFor: 300 * time.Millisecond})
	d.reached(t)
	stopServer(t, server)
	for range 5 {
		if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 503 || got.header.Get("Retry-After") == "" || !got.problem(t).Retryable {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	text := d.do(t, "GET", "/metrics", "", nil).body
	if !strings.Contains(text, `gateway_upstream_breaker_open{service="things"} 1`) || !strings.Contains(text, `gateway_upstream_requests_total{outcome="open",service="things"}`) {
		t.Errorf("the breaker is not open:\n%s", text)
	}
	if got := d.do(t, "GET", "/ready", "", nil); got.status != 503 {
		t.Errorf("ready without its module: %d", got.status)
	}
	if got := d.do(t, "GET", "/health", "", nil); got.status != 200 {
		t.Errorf("health: %d", got.status)
	}
	again := a.elsewhere(t, module, address)
	defer stopServer(t, again)
	d.reached(t)
}

// A gateway and a module of different authorities meet once the files of both hold both, without being started again.
func TestAuthoritiesFollowTheirFiles(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	server := b.elsewhere(t, newThings(), "127.0.0.1:0")
	defer stopServer(t, server)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + server.Addr().String()}})
	var both []byte
	for _, f := range []string{a.ca, b.ca} {
		pem, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, pem...)
	}
	for _, f := range []string{a.ca, b.ca} {
		if err := os.WriteFile(f, both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.reached(t)
}

// Where a module was never reached, its paths are not unknown: they are not there now.
func TestModuleThatComesLate(t *testing.T) {
	a := newAuthority(t)
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := reserved.Addr().String()
	reserved.Close()
	d := through(t, a, gatewaymodule.Service{Name: "monitoring", URLs: []string{"https://" + address}})
	if got := d.do(t, "GET", "/api/v1/monitoring/view", d.admin, nil); got.status != 503 || got.problem(t).Code != gateway.ErrUpstreamAway.Code {
		t.Errorf("before it was reached: %d %s", got.status, got.body)
	}
	if got := d.do(t, "GET", "/api/v1/nothing", d.admin, nil); got.status != 404 {
		t.Errorf("what nobody serves: %d", got.status)
	}
	server := a.elsewhere(t, newViewer(), address)
	defer stopServer(t, server)
	deadline := time.Now().Add(patience)
	for d.do(t, "GET", "/api/v1/monitoring/view", d.admin, nil).status != 200 {
		if time.Now().After(deadline) {
			t.Fatal("it was never reached")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Where a module runs can change while requests are served and streams are open.
func TestServicesChangeWithAReload(t *testing.T) {
	a := newAuthority(t)
	first, second := newThings(), newThings()
	before, after := a.elsewhere(t, first, "127.0.0.1:0"), a.elsewhere(t, second, "127.0.0.1:0")
	defer stopServer(t, after)
	defer stopServer(t, before)
	service := func(s *hop.Server, retries int) []gatewaymodule.Service {
		return []gatewaymodule.Service{{Name: "things", URLs: []string{"https://" + s.Addr().String()}, Retries: retries}}
	}
	d := through(t, a, service(before, 0)[0])
	d.reached(t)
	cert, key := a.files("gateway")
	cfg := gatewaymodule.Default()
	cfg.Internal = gatewaymodule.TLS{CertFile: cert, KeyFile: key, ClientCAFile: a.ca}

	// A stream and a websocket, which must outlive all that follows.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", d.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil || line != "data: hello\n" {
		t.Fatalf("event %q: %v", line, err)
	}
	socket, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(d.url, "http")+"/api/v1/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	<-first.entered
	socketCtx := socket.CloseRead(ctx)

	// Requests that go on all the time.
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 200 {
					t.Errorf("while services change: %d %s", got.status, got.body)
					return
				}
			}
		})
	}
	for i := range 10 {
		for _, server := range []*hop.Server{after, before, after} {
			cfg.Services = service(server, i)
			if err := d.Reload(cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	if text := d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body; !strings.Contains(text, after.Addr().String()) || strings.Contains(text, before.Addr().String()) {
		t.Error("the table does not name the new address alone")
	}
	close(stop)
	busy.Wait()
	if socketCtx.Err() != nil {
		t.Errorf("the websocket has ended: %v", context.Cause(socketCtx))
	}
	ended := make(chan error, 1)
	go func() { // ends with the body
		_, err := stream.Body.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the stream has ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}

	cfg.Services = nil
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if got := d.do(t, "GET", "/api/v1/things", d.admin, nil); got.status != 404 {
		t.Errorf("without the service: %d", got.status)
	}
	cfg.Services = service(after, 0)
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	d.reached(t)
}
