// Package httpapi is the REST face of the auth module: it decodes, makes one call of the service, and converts. Only authmodule uses it.
package httpapi

import (
	"context"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/auth/internal/trail"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The permissions that the module's routes ask for.
const (
	userRead    = "user:read"
	userWrite   = "user:write"
	tenantRead  = "tenant:read"
	tenantWrite = "tenant:write"
	roleRead    = "role:read"
	roleWrite   = "role:write"
	roleBind    = "role:bind"
)

// maxBody is plenty for every body of this module.
const maxBody = 16 << 10

const noStore = "no-store"

// api serves the routes.
type api struct {
	s    *service.Service
	ring *token.Ring
	t    *trail.Trail
}

// Register adds the module's routes to h.
func Register(h *httpx.API, s *service.Service, ring *token.Ring, t *trail.Trail) {
	a := &api{s: s, ring: ring, t: t}
	a.registerLogin(h)
	a.registerMe(h)
	a.registerMFA(h)
	a.registerMFAPolicy(h)
	a.registerResets(h)
	a.registerSessions(h)
	a.registerUsers(h)
	a.registerUserSessions(h)
	a.registerServiceAccounts(h)
	a.registerAPIKeys(h)
	a.registerTenants(h)
	a.registerRoles(h)
	a.registerBindings(h)
	a.registerKeys(h)
	a.registerAudit(h)
}

// caller gives who asks. The kit has refused everybody else before a handler runs.
func caller(ctx context.Context) (identity.Principal, error) {
	p, ok := identity.From(ctx)
	if !ok {
		return p, httpx.ErrUnauthenticated
	}
	return p, nil
}

func client(ctx context.Context) service.Client {
	c := httpx.ClientInfo(ctx)
	return service.Client{Addr: c.Addr, UserAgent: c.UserAgent}
}

// Empty is an answer without a body.
type Empty struct{}

// ByID is the input of routes on one object.
type ByID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

// page makes a page of what list gives behind a cursor of the store's.
func page[T any](params httpx.PageParams, key func(T) httpx.Cursor, list func(*store.After, int) ([]T, error)) (*Listed[T], error) {
	body, err := httpx.List(params, key, func(cursor *httpx.Cursor, limit int) ([]T, error) {
		if cursor == nil {
			return list(nil, limit)
		}
		return list(&store.After{CreatedAt: cursor.CreatedAt, ID: cursor.ID}, limit)
	})
	return &Listed[T]{Body: body}, err
}

// Listed is the answer of a list.
type Listed[T any] struct {
	Body httpx.Page[T]
}

// Versioned is the answer of a read of one object that has a version.
type Versioned[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ifMatch reads an If-Match header: nil where any version will do.
func ifMatch(header string) (*int64, error) {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return nil, nil
	}
	text, quoted := strings.CutPrefix(header, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !quoted || !closed { // no object of ours ever had such a tag
		return nil, auth.ErrVersion
	}
	return &version, nil
}
