package gatewaymodule_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

type views struct {
	Caller string `json:"caller"`
	Tenant string `json:"tenant"`
	Count  int64  `json:"count"`
	Filler string `json:"filler"`
}

// viewer is a surface whose answers say who asked and how often it was asked.
type viewer struct {
	kit   *httpx.API
	asked atomic.Int64
	wait  chan struct{} // where not nil, an answer waits for it
}

func (v *viewer) Name() string { return "monitoring" }
func (v *viewer) Routes() []httpx.Route {
	list := v.kit.Routes()
	for i := range list {
		list[i].Audited = list[i].Path == recorded
	}
	return list
}
func (v *viewer) Handler() http.Handler    { return v.kit.Handler() }
func (v *viewer) OpenAPI() ([]byte, error) { return v.kit.OpenAPI() }

func newViewer() *viewer {
	v := &viewer{kit: httpx.New("monitoring")}
	type input struct {
		Q     string `query:"q"`
		Size  int    `query:"size" maximum:"1000000"`
		Fail  bool   `query:"fail"`
		Break bool   `query:"break"`
		Store string `query:"store"`
		Vary  string `query:"vary"`
	}
	type output struct {
		CacheControl string `header:"Cache-Control"`
		Vary         string `header:"Vary"`
		Body         views
	}
	look := func(ctx context.Context, in *input) (*output, error) {
		n := v.asked.Add(1)
		if v.wait != nil {
			<-v.wait
		}
		if in.Break {
			panic("the handler is broken")
		}
		if in.Fail {
			return nil, errs.New(errs.Conflict, "test.fail", "it fails")
		}
		p, _ := identity.From(ctx)
		return &output{CacheControl: in.Store, Vary: in.Vary, Body: views{Caller: p.Username, Tenant: p.TenantID.String(), Count: n, Filler: strings.Repeat("filler ", in.Size/7)}}, nil
	}
	for id, path := range map[string]string{"view": view, "recorded": recorded} {
		httpx.Handle(v.kit, httpx.Op{ID: id, Method: http.MethodGet, Path: path, Permission: identity.Authenticated, Summary: "View"}, look)
	}
	return v
}

const (
	recorded = "/api/v1/monitoring/recorded" // a view that leaves an audit record
	view     = "/api/v1/monitoring/view"
)

// keeping opens a gateway that keeps answers of /api/monitoring/*, which the blueprint's rule says.
func keeping(t testing.TB, store cache.Cache, b bus.Bus, ttl time.Duration) (*door, *viewer) {
	t.Helper()
	v := newViewer()
	d := open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		deps.Surfaces = append(deps.Surfaces, v)
		deps.Answers, deps.Bus = store, b
		if ttl > 0 {
			cfg.Routes = []gatewaymodule.Rule{{Path: "/api/monitoring/*", CacheTTL: ttl}}
		}
	})
	return d, v
}

func (a answer) views(t *testing.T) views {
	t.Helper()
	var v views
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

func stores(t *testing.T, test func(t *testing.T, store cache.Cache)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, memory(t)) })
	t.Run("redis", func(t *testing.T) {
		c, err := cache.NewRedis(redistest.Start(t).URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		test(t, c)
	})
}

func TestAnswersAreGivenAgainToWhoAskedAndNobodyElse(t *testing.T) {
	stores(t, func(t *testing.T, store cache.Cache) {
		d, _ := keeping(t, store, nil, 0)
		same, other := second(d, d.tenant), second(d, uuid.New())
		first := d.do(t, "GET", view+"?q=a&size=7", d.admin, nil)
		again := d.do(t, "GET", view+"?size=7&q=a", d.admin, nil) // the order says nothing
		if first.header.Get("X-Cache") != "miss" || again.header.Get("X-Cache") != "hit" || first.body != again.body || again.header.Get("Etag") == "" {
			t.Errorf("first %s %s, then %s %s", first.header.Get("X-Cache"), first.body, again.header.Get("X-Cache"), again.body)
		}
		if cc := again.header.Get("Cache-Control"); !strings.HasPrefix(cc, "private, max-age=") {
			t.Errorf("Cache-Control %q", cc)
		}
		for name, token := range map[string]string{"another user of the tenant": same, "a user of another tenant": other, "a viewer": d.viewer} {
			a := d.do(t, "GET", view+"?q=a&size=7", token, nil)
			if a.header.Get("X-Cache") != "miss" || a.views(t).Count == first.views(t).Count {
				t.Errorf("%s is given %s", name, a.body)
			}
		}
		if a := d.do(t, "GET", view+"?q=b&size=7", d.admin, nil); a.header.Get("X-Cache") != "miss" {
			t.Error("another query is given the same answer")
		}
		if a := d.do(t, "GET", view+"?q=a&size=7", "", nil); a.status != 401 {
			t.Errorf("without credentials: %d %s", a.status, a.body)
		}
		if a := d.do(t, "GET", view+"?q=a&size=7", d.admin, nil, "Cache-Control", "no-cache"); a.header.Get("X-Cache") != "" {
			t.Error("no-cache is given what was kept")
		}
		for range 2 {
			if a := d.do(t, "GET", view+"?fail=true", d.admin, nil); a.status != 409 || a.header.Get("X-Cache") != "" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("a failure: %d %v", a.status, a.header)
			}
		}
	})
}

// What a caller may do is part of the question: an answer that was made with more permissions is not given to the same user with fewer.
func TestKeptAnswersFollowPermissions(t *testing.T) {
	d, v := keeping(t, memory(t), nil, 0)
	user := d.auth.AddUser("changing", auth.RoleAdmin, d.tenant)
	token := d.auth.Issue(user.ID, time.Hour)
	d.do(t, "GET", view, token, nil)
	d.auth.Change(user.ID, func(u *auth.User) { u.Role = auth.RoleViewer })
	d.do(t, "GET", view, token, nil)
	if v.asked.Load() != 2 {
		t.Errorf("the module was asked %d times, want 2", v.asked.Load())
	}
}

func TestEventsMakeAnswersOld(t *testing.T) {
	b := membus.New()
	t.Cleanup(func() { b.Close() })
	d, _ := keeping(t, memory(t), b, 0)
	other := second(d, uuid.New())
	mine, theirs := d.do(t, "GET", view, d.viewer, nil).body, d.do(t, "GET", view, d.admin, nil).body
	_ = theirs
	otherFirst := d.do(t, "GET", view, other, nil).body
	event := fmt.Sprintf(`{"id":%q,"tenant_id":%q,"type":"stopped"}`, uuid.New(), d.tenant)
	if err := b.Publish(t.Context(), bus.Message{Subject: "vm.events", Data: []byte(event)}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for d.do(t, "GET", view, d.viewer, nil).body == mine {
		if time.Now().After(deadline) {
			t.Fatal("the event did not make the answer old")
		}
	}
	// The other tenant's user is an administrator of the platform, who sees every tenant's.
	if d.do(t, "GET", view, other, nil).body == otherFirst {
		t.Error("who sees every tenant is given what was before the event")
	}
}

// What its module calls a secret is not kept, nor what depends on more than the question, nor what must leave a record each time.
func TestWhatIsNotKept(t *testing.T) {
	for path, kept := range map[string]bool{
		view: true, view + "?store=private": true, view + "?vary=Accept,%20authorization": true,
		view + "?fail=true": false, view + "?store=no-store": false, view + "?store=private,%20no-store": false, view + "?vary=Accept-Language": false, view + "?vary=*": false, recorded: false,
	} {
		d, v := keeping(t, memory(t), nil, 0)
		for range 3 {
			a := d.do(t, "GET", path, d.admin, nil)
			if a.status != 200 && a.status != 409 || a.header.Get("Server-Timing") == "" && !kept || strings.Contains(path, "vary") && a.header.Get("Vary") == "" && !kept {
				t.Fatalf("%s: %d %v %s", path, a.status, a.header, a.body)
			}
		}
		if asked := v.asked.Load(); kept && asked != 1 || !kept && asked != 3 {
			t.Errorf("%s: asked %d times of 3", path, asked)
		}
	}
}

// Whoever changes something sees it at once, also where no event tells of it; what was refused changes nothing.
func TestChangesMakeAnswersOld(t *testing.T) {
	d, _ := keeping(t, memory(t), nil, 0)
	d.auth.SetRole("writer", identity.ScopeTenant, "thing:write")
	login := func(name string, tenant uuid.UUID) string {
		return d.auth.Issue(d.auth.AddUser(name, "writer", tenant).ID, time.Hour)
	}
	writer, colleague, stranger := login("writer", d.tenant), login("colleague", d.tenant), login("stranger", uuid.New())
	seen := func(token string) string { return d.do(t, "GET", view, token, nil).header.Get("X-Cache") }
	for _, token := range []string{writer, colleague, stranger, d.admin} {
		seen(token)
	}
	write := func(token, body string, want int) {
		t.Helper()
		if a := d.do(t, "POST", "/api/v1/things", token, strings.NewReader(body), "Content-Type", "application/json"); a.status != want {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	write(writer, `{}`, 422)
	if got := seen(writer); got != "hit" {
		t.Errorf("after what was refused: %s", got)
	}
	const good = `{"id":"01930000-0000-7000-8000-000000000001","name":"b","count":3}`
	write(writer, good, 200)
	for token, want := range map[string]string{writer: "miss", colleague: "miss", d.admin: "miss", stranger: "hit"} {
		if got := seen(token); got != want {
			t.Errorf("after a change in one tenant: %s, want %s", got, want)
		}
	}
	write(d.admin, good, 200)
	if got := seen(stranger); got != "miss" {
		t.Errorf("after a change by who reaches every tenant: %s", got)
	}
}

func TestManyWhoAskTheSameAskOnce(t *testing.T) {
	d, v := keeping(t, memory(t), nil, 0)
	v.wait = make(chan struct{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a := d.do(t, "GET", view, d.admin, nil); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	deadline := time.Now().Add(patience)
	for v.asked.Load() == 0 && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	close(v.wait)
	wg.Wait()
	if v.asked.Load() != 1 {
		t.Errorf("the module was asked %d times", v.asked.Load())
	}
}

func TestStaleAnswersAreRenewedBehindTheClient(t *testing.T) {
	const ttl = 300 * time.Millisecond
	d, _ := keeping(t, memory(t), nil, ttl)
	first := d.do(t, "GET", view, d.admin, nil).views(t).Count
	sawStale := false
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		a := d.do(t, "GET", view, d.admin, nil)
		sawStale = sawStale || a.header.Get("X-Cache") == "stale" && a.views(t).Count == first
		if sawStale && a.header.Get("X-Cache") == "hit" && a.views(t).Count > first {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stale seen: %v, last %v", sawStale, a.header)
		}
	}
}

func TestCompression(t *testing.T) {
	d, _ := keeping(t, memory(t), nil, 0)
	var plain string
	for _, kept := range []bool{false, true} {
		for coding, unpack := range map[string]func(io.Reader) (io.Reader, error){
			"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
			"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
			"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		} {
			control := "no-cache"
			if kept {
				control = ""
			}
			a := d.do(t, "GET", view+"?size=20000", d.admin, nil, "Accept-Encoding", coding, "Cache-Control", control)
			if a.header.Get("Content-Encoding") != coding || !strings.Contains(a.header.Get("Vary"), "Accept-Encoding") || len(a.body) > 2000 {
				t.Fatalf("%s: %d bytes, %v", coding, len(a.body), a.header)
			}
			r, err := unpack(bytes.NewReader([]byte(a.body)))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil || !strings.Contains(string(text), "filler filler") {
				t.Errorf("%s reads back as %.80s: %v", coding, text, err)
			}
			plain = string(text)
		}
	}
	if a := d.do(t, "GET", view+"?size=20000", d.admin, nil, "Accept-Encoding", "identity"); a.header.Get("Content-Encoding") != "" || a.body != plain {
		t.Error("identity is not what the others unpack to")
	}
	if a := d.do(t, "GET", view+"?size=7", d.admin, nil, "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
}

func TestNotModified(t *testing.T) {
	d, _ := keeping(t, memory(t), nil, 0)
	for _, path := range []string{view + "?size=5000", "/api/v1/gateway/routes"} {
		etag := d.do(t, "GET", path, d.admin, nil).header.Get("Etag")
		a := d.do(t, "GET", path, d.admin, nil, "If-None-Match", `"other", `+etag)
		if etag == "" || a.status != 304 || a.body != "" || a.header.Get("Etag") != etag || a.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s with %s: %d %q", path, etag, a.status, a.body)
		}
		if a := d.do(t, "GET", path, d.admin, nil, "If-None-Match", `"other"`); a.status != 200 {
			t.Errorf("%s with another ETag: %d", path, a.status)
		}
	}
	timing := d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).header.Get("Server-Timing")
	for _, part := range []string{"edge;dur=", "admit;dur=", "gateway;dur=", "total;dur="} {
		if !strings.Contains(timing, part) {
			t.Errorf("Server-Timing %q lacks %s", timing, part)
		}
	}
	// Whoever does not run the installation is told what they could measure.
	if timing := d.do(t, "GET", "/api/v1/whoami", d.viewer, nil).header.Get("Server-Timing"); !regexp.MustCompile(`^total;dur=[0-9.]+$`).MatchString(timing) {
		t.Errorf("a viewer is told %q", timing)
	}
	if a := d.do(t, "GET", "/api/v1/info", "", nil); a.header.Get("Server-Timing") != "" {
		t.Error("strangers are told times")
	}
}

// A handler that panics, and a module elsewhere that dies within its answer, spoil one answer each, also where it would have been kept: the
// process goes on, and so do those who asked the same at the same moment.
func TestWhatBreaksIsNotKept(t *testing.T) {
	t.Run("handler", func(t *testing.T) {
		d, v := keeping(t, memory(t), nil, 0)
		v.wait = make(chan struct{})
		var asked sync.WaitGroup
		for range 5 {
			asked.Go(func() {
				if got := d.do(t, "GET", view+"?break=true", d.admin, nil); got.status != 500 || got.problem(t).Code != errs.ErrInternal.Code {
					t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
		close(v.wait)
		asked.Wait()
		if !strings.Contains(d.log.String(), "handler panicked") {
			t.Error("the panic is not in the log")
		}
		if got := d.do(t, "GET", view, d.admin, nil); got.status != 200 {
			t.Errorf("afterwards: %d %s", got.status, got.body)
		}
	})
	t.Run("module elsewhere", func(t *testing.T) {
		a := newAuthority(t)
		b := newBroken(t, a)
		d := open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
			cert, key := a.files("gateway")
			cfg.Internal = gatewaymodule.TLS{CertFile: cert, KeyFile: key, ClientCAFile: a.ca}
			cfg.Services = []gatewaymodule.Service{{Name: "things", URLs: []string{"https://" + b.l.Addr().String()}, Failures: 1000}}
			cfg.Routes = []gatewaymodule.Rule{{Path: "/api/things/*", CacheTTL: time.Minute}}
			deps.Surfaces, deps.Answers = nil, memory(t)
		})
		b.known(t, d)
		b.how.Store(func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"id\":")
		})
		if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 503 || got.problem(t).Code != gateway.ErrUpstreamAway.Code {
			t.Errorf("%d %s", got.status, got.body)
		}
		b.how.Store(func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		})
		if got := d.do(t, "GET", aThing(), d.admin, nil); got.status != 200 || got.header.Get("X-Cache") != "miss" {
			t.Errorf("afterwards: %d %s", got.status, got.body)
		}
	})
}
