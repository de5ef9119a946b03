package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/httpx"
)

func same(s string) string { return strings.Replace(s, "/api/vms", "/api/v1/vms", 1) }

func TestMostSpecificRuleDecides(t *testing.T) {
	t.Parallel()
	set := NewSet(append(Defaults(),
		Rule{Path: "/api/v1/vms/{id}/console", RateLimit: "10/minute", Timeout: time.Second},
		Rule{Path: "/api/v1/vms/{id}", Methods: []string{"DELETE"}, RateLimit: "20/minute", Cost: 50},
		Rule{Path: "/api/v1/vms/*", RateLimit: "500/hour", Timeout: time.Minute},
		Rule{Path: "/*", Timeout: time.Hour},
	), same)
	for _, test := range []struct {
		method, path, rate, rule string
		timeout                  time.Duration
		cost                     int
	}{
		{"GET", "/api/v1/vms", "500/hour", "/api/v1/vms/*", time.Minute, 1}, // it replaced the built-in rule of that path
		{"GET", "/api/v1/vms/{id}", "500/hour", "/api/v1/vms/*", time.Minute, 1},
		{"DELETE", "/api/v1/vms/{id}", "20/minute", "/api/v1/vms/{id} DELETE", time.Minute, 50},
		{"POST", "/api/v1/vms/{vm}/console", "10/minute", "/api/v1/vms/{id}/console", time.Second, 5},
		{"GET", "/api/v1/vms/{id}/console/log", "500/hour", "/api/v1/vms/*", time.Minute, 1},
		{"GET", "/api/v1/vmsx", "", "", time.Hour, 1},
	} {
		p := set.For("vm", httpx.Route{Method: test.method, Path: test.path, Permission: "vm:x"})
		if p.RateText != test.rate || p.Rule != test.rule || p.Timeout != test.timeout || p.Cost != test.cost || !slices.Equal(p.Permissions, []string{"vm:x"}) {
			t.Errorf("%s %s: %+v", test.method, test.path, p)
		}
	}
}

func TestBlueprintRules(t *testing.T) {
	t.Parallel()
	set := NewSet(Defaults(), func(s string) string { return strings.Replace(s, "/api/", "/api/v1/", 1) })
	login := set.For("auth", httpx.Route{Method: "POST", Path: "/auth/login", Permission: "public"})
	if login.Rate.Rate != 100 || login.Rate.Per != time.Minute || login.AuthRequired {
		t.Errorf("login: %+v", login)
	}
	if vms := set.For("vm", httpx.Route{Method: "GET", Path: "/api/v1/vms", Permission: "vm:read"}); vms.Rate.Rate != 1000 || vms.Rate.Per != time.Minute || !vms.AuthRequired {
		t.Errorf("virtual machines: %+v", vms)
	}
	// A browser brings a ticket to the console's websocket, and can bring nothing else.
	if console := set.For("vm", httpx.Route{Method: "GET", Path: "/api/v1/vms/{id}/console/ws", Permission: "public"}); console.AuthRequired || console.RateText != "1000/minute" {
		t.Errorf("console: %+v", console)
	}
	read := set.For("federation", httpx.Route{Method: "GET", Path: "/api/v1/multicloud/providers", Permission: "provider:read"})
	write := set.For("federation", httpx.Route{Method: "PATCH", Path: "/api/v1/multicloud/providers/{id}", Permission: "multicloud:write"})
	if !slices.Equal(read.Permissions, []string{"provider:read", "multicloud:read"}) || !slices.Equal(write.Permissions, []string{"multicloud:write"}) {
		t.Errorf("read %v, write %v", read.Permissions, write.Permissions)
	}
	metrics := set.For("monitoring", httpx.Route{Method: "GET", Path: "/api/v1/monitoring/health", Permission: "public"})
	if metrics.CacheTTL != 30*time.Second || !metrics.AuthRequired {
		t.Errorf("metrics: %+v", metrics)
	}
	if p := set.For("monitoring", httpx.Route{Method: "POST", Path: "/api/v1/monitoring/alerts", Permission: "alert:write"}); p.CacheTTL != 0 {
		t.Errorf("an answer to POST is kept for %s", p.CacheTTL)
	}
}

func TestCosts(t *testing.T) {
	t.Parallel()
	for want, routes := range map[int][]httpx.Route{1: {{Method: "GET", Path: "/me"}, {Method: "GET", Path: "/things/{id}"}},
		5: {{Method: "GET", Path: "/things", Lists: true}, {Method: "GET", Path: "/things/{id}/parts/{kind}", Lists: true}, {Method: "GET", Path: "/log", Raw: true}, {Method: "DELETE", Path: "/things/{id}"}}} {
		for _, r := range routes {
			if got := NewSet(nil, same).For("m", r).Cost; got != want {
				t.Errorf("%+v costs %d, want %d", r, got, want)
			}
		}
	}
}

// What a rule takes back stays away, however less specific rules are ordered; what it says nothing of is theirs.
func TestRulesTakeBack(t *testing.T) {
	t.Parallel()
	set := NewSet([]Rule{
		{Path: "/things/*", CacheTTL: time.Minute, Timeout: time.Second, Retries: 3, Cost: 2},
		{Path: "/things/{id}/*", CacheTTL: Off, Timeout: Off, Retries: Off},
		{Path: "/things/{id}/again", CacheTTL: time.Hour},
	}, same)
	for path, want := range map[string]Policy{
		"/things":            {CacheTTL: time.Minute, Timeout: time.Second, Retries: 3},
		"/things/{id}/x":     {CacheTTL: 0, Timeout: Off, Retries: Off},
		"/things/{id}/again": {CacheTTL: time.Hour, Timeout: Off, Retries: Off},
	} {
		p := set.For("m", httpx.Route{Method: "GET", Path: path, Permission: "x:read"})
		if p.CacheTTL != want.CacheTTL || p.Timeout != want.Timeout || p.Retries != want.Retries || p.Cost != 2 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestRulesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Rule{
		"path": {Path: "api"}, "path: ": {Path: "/a/*/b"}, "* only as": {Path: "/a*"}, "service": {Path: "/", Service: "vms"}, "methods": {Path: "/", Methods: []string{"get"}},
		"permissions": {Path: "/", Permissions: []string{"vm"}}, "rate_limit": {Path: "/", RateLimit: "10/day"}, "cost": {Path: "/", Cost: -1},
		"cache_ttl": {Path: "/", CacheTTL: -2}, "timeout": {Path: "/", Timeout: 2 * time.Hour}, "retries": {Path: "/", Retries: 11},
		"deprecated": {Path: "/", Deprecated: "soon"}, "sunset": {Path: "/", Sunset: "2026-13-01"},
	} {
		failed := r.Validate()
		if len(failed) != 1 || !strings.Contains(failed[0].Error(), want) {
			t.Errorf("%+v: %v", r, failed)
		}
	}
	for _, bad := range []string{"", "1", "0/second", "-1/second", "1/fortnight", "1000001/hour", "9999999999999999999/hour", " 1/hour"} {
		if _, err := ParseRate(bad); err == nil {
			t.Errorf("%q is taken for a rate", bad)
		}
	}
	for _, r := range Defaults() {
		if failed := r.Validate(); failed != nil {
			t.Errorf("%+v: %v", r, failed)
		}
	}
}
