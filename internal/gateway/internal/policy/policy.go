package policy

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Policy is what holds for one route.
type Policy struct {
	Rule         string        // path and methods of the rule that gave the rate limit; requests to all routes of it are counted together
	Rate         cache.Limit   // for each caller; zero: none
	RateText     string        // as it was written
	Cost         int           // what a request takes of the tenant's budget
	CacheTTL     time.Duration // 0: answers are not kept
	Timeout      time.Duration // 0: the usual one; Off: none
	Retries      int           // 0: as many as the module's; Off: none
	AuthRequired bool
	Permissions  []string // that the route and its rules ask for together
	Deprecated   string   // value of the header Deprecation (RFC 9745); empty: it is not
	Sunset       string   // value of the header Sunset (RFC 8594)
	DeprecatedOn string   // the days, as they were written
	SunsetOn     string
}

// Set is the rules that are in force. It is immutable.
type Set struct {
	rules []rule // most specific first
}

type rule struct {
	Rule
	segments []string
	rate     cache.Limit
}

// NewSet takes rules, which must be valid. Of two with the same path and methods the later one counts. canonical turns a path as people
// write it into the one that modules register.
func NewSet(rules []Rule, canonical func(string) string) *Set {
	s := &Set{}
	for _, r := range rules {
		r.Path = canonical(r.Path)
		c := rule{Rule: r, segments: strings.Split(strings.Trim(r.Path, "/"), "/")}
		if r.RateLimit != "" {
			c.rate, _ = ParseRate(r.RateLimit) // Validate has read it
		}
		s.rules = slices.DeleteFunc(s.rules, func(o rule) bool { return o.Path == r.Path && slices.Equal(o.Methods, r.Methods) })
		s.rules = append(s.rules, c)
	}
	slices.SortStableFunc(s.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(b.forSome(), a.forSome()), strings.Compare(a.Path, b.Path))
	})
	return s
}

// forSome is 1 for a rule that names methods, which goes before one for all.
func (r rule) forSome() int { return min(len(r.Methods), 1) }

// name tells it from the other rules: for one path there may be one for reading and another for changes, which count apart.
func (r rule) name() string {
	if len(r.Methods) == 0 {
		return r.Path
	}
	return r.Path + " " + strings.Join(r.Methods, ",")
}

// weight is how specific a path is: segments that are said in full count most, then those that stand for any one.
func (r rule) weight() int {
	w := 0
	for _, s := range r.segments {
		switch {
		case s == "*":
		case strings.HasPrefix(s, "{"):
			w += 2
		default:
			w += 3
		}
	}
	if len(r.segments) > 0 && r.segments[len(r.segments)-1] != "*" {
		w++ // it is this path and none below
	}
	return w
}

// covers tells whether the rule applies to a route, which is given by method and pattern.
func (r rule) covers(method string, pattern []string) bool {
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, method) {
		return false
	}
	for i, s := range r.segments {
		if s == "*" && i == len(r.segments)-1 {
			return true
		}
		if i >= len(pattern) || (s != pattern[i] && !strings.HasPrefix(s, "{")) {
			return false
		}
	}
	return len(pattern) == len(r.segments)
}

// For gives what holds for a route of a module.
func (s *Set) For(module string, route httpx.Route) Policy {
	p := Policy{Cost: defaultCost(route)}
	if route.Permission != identity.Public {
		p.AuthRequired = true
		if route.Permission != identity.Authenticated {
			p.Permissions = []string{route.Permission}
		}
	}
	pattern := strings.Split(strings.Trim(route.Path, "/"), "/")
	var cost bool
	for _, r := range s.rules {
		if !r.covers(route.Method, pattern) || (r.Service != "" && r.Module() != module) {
			continue
		}
		if p.RateText == "" && r.RateLimit != "" {
			p.Rate, p.RateText, p.Rule = r.rate, r.RateLimit, r.name()
		}
		if !cost && r.Cost > 0 {
			p.Cost, cost = r.Cost, true
		}
		p.Retries, p.Timeout, p.CacheTTL = cmp.Or(p.Retries, r.Retries), cmp.Or(p.Timeout, r.Timeout), cmp.Or(p.CacheTTL, r.CacheTTL)
		if day, _ := parseDay(r.Deprecated); p.Deprecated == "" && !day.IsZero() {
			p.Deprecated, p.DeprecatedOn = "@"+strconv.FormatInt(day.Unix(), 10), r.Deprecated
		}
		if day, _ := parseDay(r.Sunset); p.Sunset == "" && !day.IsZero() {
			p.Sunset, p.SunsetOn = day.UTC().Format(http.TimeFormat), r.Sunset
		}
		p.AuthRequired = p.AuthRequired || r.AuthRequired
		for _, perm := range needed(route.Method, r.Permissions) {
			if !slices.Contains(p.Permissions, perm) {
				p.Permissions = append(p.Permissions, perm)
			}
		}
	}
	if p.CacheTTL == Off || route.Method != http.MethodGet {
		p.CacheTTL = 0
	}
	return p
}

// Matches tells whether a rule applies to a route of a module at all.
func Matches(r Rule, module string, route httpx.Route, canonical func(string) string) bool {
	c := rule{Rule: r, segments: strings.Split(strings.Trim(canonical(r.Path), "/"), "/")}
	return (r.Service == "" || r.Module() == module) && c.covers(route.Method, strings.Split(strings.Trim(route.Path, "/"), "/"))
}

// Below tells whether a path is below one of the patterns, which are written as those of rules.
func Below(path string, patterns []string, canonical func(string) string) bool {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for _, p := range patterns {
		r := rule{segments: strings.Split(strings.Trim(canonical(p), "/"), "/")}
		if r.covers("", segments) {
			return true
		}
	}
	return false
}

// needed picks those of a rule's permissions that a method needs: a pair such as multicloud:read and multicloud:write means that GET
// needs the first and every other method the second.
func needed(method string, permissions []string) []string {
	reads := func(p string) bool { return strings.HasSuffix(p, ":read") }
	if !slices.ContainsFunc(permissions, reads) || !slices.ContainsFunc(permissions, func(p string) bool { return !reads(p) }) {
		return permissions
	}
	get := method == http.MethodGet
	return slices.DeleteFunc(slices.Clone(permissions), func(p string) bool { return reads(p) != get })
}

// defaultCost makes what works the server more take more of the budget: one for an object that is read, five for a list, a change or
// what comes as bytes.
func defaultCost(r httpx.Route) int {
	if r.Method == http.MethodGet && !r.Lists && !r.Raw {
		return 1
	}
	return 5
}
