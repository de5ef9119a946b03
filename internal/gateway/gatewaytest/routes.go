// Package gatewaytest checks what modules show to the outside, for tests.
package gatewaytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/novacron/novacron/internal/gateway/internal/edge"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// operation is what CheckRoutes looks at in an OpenAPI document.
type operation struct {
	ID         string         `json:"operationId"`
	Summary    string         `json:"summary"`
	Permission string         `json:"x-permission"`
	Responses  map[string]any `json:"responses"`
}

// CheckRoutes compares, for every surface, three lists that must say the same: the routes that it declares, the operations of its OpenAPI
// document, and, where its handler is a chi router, what that router serves in fact. It answers every difference, and every route without a
// permission or a documentation, or that two surfaces claim.
func CheckRoutes(surfaces []edge.Surface) []error {
	c := checker{claimed: map[string]string{}, ids: map[string]string{}}
	for _, s := range surfaces {
		c.surface(s)
	}
	return c.found
}

type checker struct {
	claimed, ids map[string]string
	found        []error
}

func (c *checker) report(format string, args ...any) {
	c.found = append(c.found, fmt.Errorf(format, args...))
}

func (c *checker) surface(s edge.Surface) {
	declared := map[string]httpx.Route{}
	for _, r := range s.Routes() {
		key := r.Method + " " + r.Path
		declared[key] = r
		if other, twice := c.claimed[key]; twice {
			c.report("%s: %s is claimed by %s too", s.Name(), key, other)
		}
		c.claimed[key] = s.Name()
		if other, twice := c.ids[r.OperationID]; twice {
			c.report("%s: the operation id %s of %s is also that of %s", s.Name(), r.OperationID, key, other)
		}
		c.ids[r.OperationID] = key
		if r.Permission == "" {
			c.report("%s: %s declares no permission", s.Name(), key)
		}
	}
	c.documents(s, declared)
	router, ok := s.Handler().(chi.Routes)
	if !ok {
		return
	}
	_ = chi.Walk(router, func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if _, known := declared[method+" "+path]; !known {
			c.report("%s: the router serves %s %s, which is declared nowhere", s.Name(), method, path)
		}
		return nil
	})
}

func (c *checker) documents(s edge.Surface, declared map[string]httpx.Route) {
	raw, err := s.OpenAPI()
	if err != nil {
		c.report("%s: OpenAPI document: %w", s.Name(), err)
		return
	}
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		c.report("%s: OpenAPI document: %w", s.Name(), err)
		return
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			key := strings.ToUpper(method) + " " + path
			if _, ok := declared[key]; !ok {
				c.report("%s: %s is documented, but not served", s.Name(), key)
			}
			if op.Summary == "" || len(op.Responses) == 0 {
				c.report("%s: %s is documented without a summary or an answer", s.Name(), key)
			}
		}
	}
	for key, r := range declared {
		op, ok := doc.Paths[r.Path][strings.ToLower(r.Method)]
		switch {
		case !ok:
			c.report("%s: %s is not documented", s.Name(), key)
		case op.Permission != r.Permission || op.ID != r.OperationID:
			c.report("%s: %s needs %q, the document says %q", s.Name(), key, r.Permission, op.Permission)
		}
	}
}
