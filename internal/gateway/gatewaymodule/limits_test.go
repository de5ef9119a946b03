package gatewaymodule_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// limited opens a gateway with limits, which a test sets; those it does not set are off.
func limited(t testing.TB, c cache.Cache, shared bool, rates gatewaymodule.Rates, rules ...gatewaymodule.Rule) *door {
	t.Helper()
	return open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		for _, r := range []*string{&rates.User, &rates.Key, &rates.Tenant, &rates.Address} {
			if *r == "" {
				*r = "unlimited"
			}
		}
		cfg.Rates, cfg.Routes = rates, rules
		deps.Counters, deps.CountersShared = c, shared
	})
}

func memory(t testing.TB) cache.Cache {
	c := cache.NewMemory(1000)
	t.Cleanup(func() { c.Close() })
	return c
}

// second gives the token of another user.
func second(d *door, tenant uuid.UUID) string {
	return d.auth.Issue(d.auth.AddUser("second", auth.RoleAdmin, tenant).ID, time.Hour)
}

func aThing() string { return "/api/v1/things/" + uuid.NewString() }

func TestRouteLimitCountsEachCallerApart(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{}, gatewaymodule.Rule{Path: "/api/things/*", RateLimit: "3/hour"})
	for i := range 5 {
		a := d.do(t, "GET", aThing(), d.admin, nil)
		want, left := 200, 2-i
		if i >= 3 {
			want, left = 429, 0
		}
		if a.status != want || a.header.Get("RateLimit-Limit") != "3" || a.header.Get("RateLimit-Remaining") != strconv.Itoa(left) {
			t.Fatalf("request %d: %d %v", i, a.status, a.header)
		}
		if reset, err := strconv.Atoi(a.header.Get("RateLimit-Reset")); err != nil || reset < 1 || reset > 3600 {
			t.Errorf("reset %q", a.header.Get("RateLimit-Reset"))
		}
		if want == 429 {
			p := a.problem(t)
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			if p.Code != gateway.ErrRateLimited.Code || p.Meta["limit"] != "route" || !p.Retryable || err != nil || after < 1 || after > 1200 {
				t.Errorf("refused with %+v, retry after %q", p, a.header.Get("Retry-After"))
			}
		}
	}
	if a := d.do(t, "GET", aThing(), second(d, d.tenant), nil); a.status != 200 {
		t.Errorf("another caller: %d", a.status)
	}
	for range 10 {
		if a := d.do(t, "GET", "/health", "", nil); a.status != 200 || a.header.Get("RateLimit-Limit") != "" {
			t.Errorf("health: %d %v", a.status, a.header)
		}
	}
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, `gateway_rate_limited_total{limit="route"} 2`) {
		t.Errorf("not in the metrics:\n%s", text)
	}
}

// Two rules for one path, told apart by their methods, count apart.
func TestRulesForMethodsCountApart(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{}, gatewaymodule.Rule{Path: "/api/things/*", Methods: []string{"GET"}, RateLimit: "1000/hour"},
		gatewaymodule.Rule{Path: "/api/things/*", Methods: []string{"POST"}, RateLimit: "2/hour"})
	for range 20 {
		if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for i, want := range []int{422, 422, 429} {
		if a := d.do(t, "POST", "/api/v1/things", d.admin, strings.NewReader("{}"), "Content-Type", "application/json"); a.status != want {
			t.Errorf("change %d: %d %s", i, a.status, a.body)
		}
	}
	if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != 200 || a.header.Get("RateLimit-Limit") != "1000" {
		t.Errorf("reading afterwards: %d %v", a.status, a.header)
	}
}

// A key has a limit of its own within that of its user.
func TestKeyLimitIsWithinThatOfItsUser(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{User: "8/hour", Key: "3/hour"})
	eve := d.validate(t, d.viewer)
	first, second := d.key(t, auth.CreateAPIKeyRequest{Actor: eve, Name: "first"}).Secret, d.key(t, auth.CreateAPIKeyRequest{Actor: eve, Name: "second"}).Secret
	ask := func(what, header, value, refusedBy string) {
		t.Helper()
		a := d.do(t, "GET", "/api/v1/whoami", "", nil, header, value)
		if refusedBy == "" && a.status != 200 || refusedBy != "" && (a.status != 429 || a.problem(t).Meta["limit"] != refusedBy) {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	for _, key := range []string{first, second} {
		for range 3 {
			ask("a key", "X-API-Key", key, "")
		}
		ask("a key that is used up", "X-API-Key", key, "key")
	}
	for range 2 {
		ask("their user", "Authorization", "Bearer "+d.viewer, "")
	}
	ask("their user, used up", "Authorization", "Bearer "+d.viewer, "user")
}

// Behind a proxy that is trusted, clients are told apart, from SIGHUP on; what they claim of themselves to others counts for nothing.
func TestClientsBehindAProxyCountApart(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{Address: "3/hour"})
	ask := func(client string) int {
		t.Helper()
		return d.do(t, "GET", "/api/v1/info", "", nil, "X-Forwarded-For", "203.0.113.200, "+client).status
	}
	for i, want := range []int{200, 200, 200, 429} {
		if got := ask(fmt.Sprintf("203.0.113.%d", i)); got != want {
			t.Errorf("request %d past no proxy: %d", i, got)
		}
	}
	cfg := gatewaymodule.Default()
	cfg.Rates = gatewaymodule.Rates{User: "unlimited", Key: "unlimited", Tenant: "unlimited", Address: "3/hour"}
	cfg.Proxies = []string{"127.0.0.1", "10.1.0.0/16"}
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 200, 200, 429} {
		for _, client := range []string{"203.0.113.1", "203.0.113.2"} {
			if got := ask(client); got != want {
				t.Errorf("request %d of %s: %d", i, client, got)
			}
		}
	}
	cfg.Proxies = []string{"proxy.example.org"}
	if err := d.Reload(cfg); err == nil || !strings.Contains(err.Error(), "http.trusted_proxies") {
		t.Errorf("a name: %v", err)
	}
}

func TestTenantBudgetIsSharedAndListsCostMore(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{Tenant: "40/hour"})
	other := second(d, uuid.New())
	for _, step := range []struct {
		token, path string
		left        int
	}{
		{d.admin, aThing(), 39},
		{d.admin, "/api/v1/things", 34},           // of the same tenant
		{d.admin, "/api/v1/things?limit=500", 19}, // 5, and 1 for each 50
		{d.admin, "/api/v1/things?limit=50", 14},
		{other, aThing(), 39},
	} {
		if a := d.do(t, "GET", step.path, step.token, nil); a.header.Get("RateLimit-Remaining") != strconv.Itoa(step.left) {
			t.Errorf("%s leaves %s, want %d", step.path, a.header.Get("RateLimit-Remaining"), step.left)
		}
	}
	if a := d.do(t, "GET", "/api/v1/things?limit=500", d.admin, nil); a.status != 429 || a.problem(t).Meta["limit"] != "tenant" {
		t.Errorf("more than the budget has: %d %s", a.status, a.body)
	}
	if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != 200 {
		t.Errorf("a cheap request that the budget has room for: %d", a.status)
	}
}

func TestWrongCredentialsAreLimitedByAddress(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{Address: "25/hour"})
	for i, want := range []int{401, 401, 429} {
		if a := d.do(t, "GET", aThing(), "guess", nil); a.status != want {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	// Guessing costs ten, being right one.
	for i, want := range []int{200, 200, 200, 200, 200, 429} {
		if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != want {
			t.Fatalf("request %d: %d %s", i, a.status, a.body)
		}
	}
}

// Two gateways that share one Redis let in exactly what is allowed, however the requests are spread.
func TestTwoGatewaysOneRedis(t *testing.T) {
	server := redistest.Start(t)
	shared := func() cache.Cache {
		c, err := cache.NewRedis(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	rule := gatewaymodule.Rule{Path: "/api/things/*", RateLimit: "100/hour"}
	first := limited(t, shared(), true, gatewaymodule.Rates{}, rule)
	second := open(t, func(cfg *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		cfg.Rates = gatewaymodule.Rates{User: "unlimited", Key: "unlimited", Tenant: "unlimited", Address: "unlimited"}
		cfg.Routes = []gatewaymodule.Rule{rule}
		deps.Auth, deps.Counters, deps.CountersShared = first.auth, shared(), true
	})
	doors, token := [2]*door{first, second}, first.admin
	var in, out atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 10 {
				switch a := doors[i%2].do(t, "GET", aThing(), token, nil); a.status {
				case http.StatusOK:
					in.Add(1)
				case http.StatusTooManyRequests:
					out.Add(1)
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	if in.Load() != 100 || out.Load() != 100 {
		t.Errorf("%d were let in and %d refused, want 100 each", in.Load(), out.Load())
	}
}

func TestLimitsHoldWhileRedisIsAway(t *testing.T) {
	server := redistest.Start(t)
	c, err := cache.NewRedis(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := limited(t, c, true, gatewaymodule.Rates{}, gatewaymodule.Rule{Path: "/api/things/*", RateLimit: "3/hour"})
	if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	server.Kill()
	for i, want := range []int{200, 200, 200, 429} { // the gateway begins to count for itself
		if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != want {
			t.Fatalf("request %d without Redis: %d %s", i, a.status, a.body)
		}
	}
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, "gateway_rate_limit_local 1") || !strings.Contains(d.log.String(), "counts for itself") {
		t.Error("nothing says that the limits are local")
	}
	if a := d.do(t, "GET", "/ready", "", nil); a.status != 200 || !strings.Contains(a.body, "rate limits") {
		t.Errorf("readiness: %d %s", a.status, a.body)
	}
	server.Restart()
	deadline := time.Now().Add(patience)
	for d.do(t, "GET", aThing(), d.admin, nil).status != 200 { // the server that came back has forgotten
		if time.Now().After(deadline) {
			t.Fatal("the shared limits did not come back")
		}
		<-time.After(50 * time.Millisecond)
	}
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, "gateway_rate_limit_local 0") {
		t.Error("the metrics still say that the limits are local")
	}
}

// Rules change while requests are served; those of a configuration with a mistake do not.
func TestReloadDropsNothing(t *testing.T) {
	d := limited(t, memory(t), false, gatewaymodule.Rates{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := d.do(t, "GET", aThing(), d.admin, nil); a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
					return
				}
			}
		})
	}
	cfg := gatewaymodule.Default()
	cfg.Rates = gatewaymodule.Rates{User: "unlimited", Key: "unlimited", Tenant: "unlimited", Address: "unlimited"}
	for i := range 50 {
		cfg.Routes = []gatewaymodule.Rule{{Path: "/api/things/*", RateLimit: fmt.Sprintf("%d/second", 100_000+i), Timeout: time.Minute}}
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	bad := cfg
	bad.Routes = append([]gatewaymodule.Rule{}, gatewaymodule.Rule{Path: "things", RateLimit: "many"})
	if err := d.Reload(bad); err == nil || !strings.Contains(err.Error(), "gateway.routes[0].path") || !strings.Contains(err.Error(), "gateway.routes[0].rate_limit") {
		t.Errorf("mistakes: %v", err)
	}
	// A rule that is mistyped is no mistake, because it may be about a module that is not there; but it is told.
	cfg.Routes = []gatewaymodule.Rule{{Path: "/api/thingz/*", Cost: 1}, {Path: "/api/things/*", Service: "vm", Cost: 2}, {Path: "/api/things/*", Methods: []string{"DELETE"}, Cost: 3},
		{Path: "/api/things/*", RateLimit: "100049/second", Timeout: time.Minute}}
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(d.log.String(), "applies to no route"); got != 3 {
		t.Errorf("%d rules are told to be idle, want 3", got)
	}
	var page httpx.Page[gateway.Route]
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body), &page); err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Items {
		if r.OperationID == "thing-get" && (r.RateLimit != "100049/second" || r.TimeoutMS != 60_000 || r.Upstream != "local" || !r.AuthRequired || r.Permissions[0] != "thing:read") {
			t.Errorf("in force: %+v", r)
		}
	}
}
