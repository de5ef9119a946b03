// Package policy holds what an operator says about routes: how often they may be asked, how long they may take, how long their answers are
// kept. Rules are matched against the routes that modules serve; for each route the most specific rule decides, setting by setting.
package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/cache"
)

// Off takes back what less specific rules say of CacheTTL, Timeout or Retries: nothing is kept, answers take as long as they take, nothing is
// sent again, whatever is usual.
const Off = -1

// Rule is one line of the route configuration. A rule can ask for more than a route asks for by itself, never for less.
type Rule struct {
	Path         string        // "/api/vms/*"; without a version it stands for the default one. * at the end is everything below, {x} any one segment
	Service      string        // the module the path belongs to, with or without "-service" behind its name; may be empty
	Methods      []string      // that it applies to; none: all
	AuthRequired bool          // credentials are needed, also where the route is public
	Permissions  []string      // that a caller needs besides the route's own; those ending in :read for GET, the others for other methods
	RateLimit    string        // "100/minute" for each caller; empty: that of a less specific rule
	Cost         int           // what a request takes of the tenant's budget; 0: by method
	CacheTTL     time.Duration // how long an answer to GET may be given again; 0: as a less specific rule says, Off: not at all
	Timeout      time.Duration // how long an answer may take; 0: as a less specific rule says, Off: as long as it takes
	Retries      int           // how often a request that may be repeated is sent again to another process; 0: as a less specific rule says, Off: never
	Deprecated   string        // since which day clients should use something else, 2026-12-31; told in every answer
	Sunset       string        // from which day the route may be gone
}

// Defaults are the routes of the blueprint, with every method that is served. Below /api/vms every route asks for a permission, and so for
// credentials, by itself, except for one: the websocket of a console, to which a ticket is brought instead, because pages in a browser can
// send no headers with it.
func Defaults() []Rule {
	return []Rule{
		{Path: "/auth/*", Service: "auth-service", RateLimit: "100/minute"},
		{Path: "/api/vms/*", Service: "vm-service", RateLimit: "1000/minute"},
		{Path: "/api/multicloud/*", Service: "federation-service", AuthRequired: true, Permissions: []string{"multicloud:read", "multicloud:write"}},
		{Path: "/api/monitoring/*", Service: "monitoring-service", AuthRequired: true, CacheTTL: 30 * time.Second},
	}
}

// Paths tells below which paths the routes of a module are. It serves for one thing only: to tell a module that was never reached from a
// path that nobody serves.
func Paths(module string) []string {
	return map[string][]string{
		"auth": {"/auth/*", "/.well-known/*", "/api/me/*", "/api/users/*", "/api/tenants/*", "/api/roles/*", "/api/permissions/*", "/api/api-keys/*",
			"/api/service-accounts/*", "/api/audit/*"},
		"vm": {"/api/vms/*", "/api/images/*", "/api/templates/*", "/api/volumes/*", "/api/storage-pools/*", "/api/networks/*", "/api/security-groups/*",
			"/api/ssh-keys/*", "/api/flavors/*", "/api/operations/*", "/api/events/*", "/api/webhooks/*", "/api/audit/drift/*"},
		"scheduler":  {"/api/nodes/*", "/api/scheduler/*", "/api/affinity-groups/*", "/api/tenants/{id}/quota"},
		"federation": {"/api/multicloud/*"},
		"monitoring": {"/api/monitoring/*"},
	}[module]
}

// Modules that a rule may name as its service.
var modules = []string{"auth", "vm", "federation", "monitoring", "scheduler", "gateway"} //nolint:gochecknoglobals // constant

// Module gives the module that the rule's service is.
func (r Rule) Module() string { return strings.TrimSuffix(r.Service, "-service") }

// Validate lists every mistake.
func (r Rule) Validate() []error {
	var failed []error
	bad := func(format string, args ...any) { failed = append(failed, fmt.Errorf(format, args...)) }
	if !strings.HasPrefix(r.Path, "/") || strings.Contains(strings.TrimSuffix(r.Path, "*"), "*") || strings.HasSuffix(r.Path, "*") && !strings.HasSuffix(r.Path, "/*") {
		bad("path: %q is not a path that begins with / and has * only as its last segment", r.Path)
	}
	if r.Service != "" && !slices.Contains(modules, r.Module()) {
		bad("service: %q is no module; there are %s", r.Service, strings.Join(modules, ", "))
	}
	for _, m := range r.Methods {
		if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, m) {
			bad("methods: %q is none of GET, POST, PUT, PATCH, DELETE", m)
		}
	}
	for _, p := range r.Permissions {
		if resource, verb, ok := strings.Cut(p, ":"); !ok || resource == "" || verb == "" {
			bad("permissions: %q is not <resource>:<verb>", p)
		}
	}
	if r.RateLimit != "" {
		if _, err := ParseRate(r.RateLimit); err != nil {
			bad("rate_limit: %w", err)
		}
	}
	if r.Cost < 0 || r.Cost > 10_000 {
		bad("cost: must be from 0 to 10000")
	}
	if r.CacheTTL < Off || r.CacheTTL > 24*time.Hour {
		bad("cache_ttl: must be from 0 to 24h, or off")
	}
	if r.Timeout < Off || r.Timeout > time.Hour {
		bad("timeout: must be from 0 to 1h, or off")
	}
	if r.Retries < Off || r.Retries > 10 {
		bad("retries: must be from 0 to 10, or off")
	}
	for name, day := range map[string]string{"deprecated": r.Deprecated, "sunset": r.Sunset} {
		if _, err := parseDay(day); err != nil {
			bad("%s: %q is not a day; write it as 2026-12-31", name, day)
		}
	}
	return failed
}

// parseDay reads a day; the empty text gives the zero time.
func parseDay(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, s)
}

// ParseRate reads "100/minute"; a burst of as many is allowed at once. "unlimited" is no limit.
func ParseRate(s string) (cache.Limit, error) {
	if s == "unlimited" {
		return cache.Limit{}, nil
	}
	count, unit, ok := strings.Cut(s, "/")
	per, known := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}[unit]
	n, err := strconv.Atoi(count)
	if !ok || !known || err != nil || n <= 0 || n > 1_000_000 {
		return cache.Limit{}, fmt.Errorf("%q is not a rate; write it as 100/second, 100/minute or 100/hour, at most a million, or as unlimited", s)
	}
	return cache.Limit{Rate: n, Per: per, Burst: n}, nil
}
