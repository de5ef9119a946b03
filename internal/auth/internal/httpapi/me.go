package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Me is what callers see of themselves.
type Me struct {
	auth.User
	Tenant      auth.Tenant    `json:"tenant" doc:"The tenant that I act in: my own, or the one that X-Tenant-ID names."`
	Scope       identity.Scope `json:"scope" enum:"tenant,platform" doc:"How far the permissions reach, all of them."`
	Permissions []string       `json:"permissions" nullable:"false"`
	Pending     string         `json:"pending,omitempty" enum:"password_change,mfa_enrolment" doc:"What has to be done before anything else works."`
	SessionID   *uuid.UUID     `json:"session_id,omitempty" doc:"Absent where an API key was used."`
	APIKeyID    *uuid.UUID     `json:"api_key_id,omitempty" doc:"The API key that was used; absent after a login."`
}

// MeOutput carries it.
type MeOutput struct {
	Body Me
}

// Grants are the permissions of the caller.
type Grants struct {
	Role        string         `json:"role" example:"operator"`
	Scope       identity.Scope `json:"scope" enum:"tenant,platform"`
	TenantID    uuid.UUID      `json:"tenant_id" doc:"The tenant that they count in."`
	Platform    []string       `json:"platform_permissions" nullable:"false" doc:"Those that count in every tenant."`
	Permissions []string       `json:"permissions" nullable:"false" doc:"\"<resource>:<verb>\"; either part may be \"*\"; \"*\" alone is everything, and \":own\" at the end narrows one to what I own."`
}

// GrantsOutput carries them.
type GrantsOutput struct {
	Body Grants
}

// ChangePasswordInput is what a change of the own password takes.
type ChangePasswordInput struct {
	Body struct {
		CurrentPassword string `json:"current_password" minLength:"1" maxLength:"1024"`
		NewPassword     string `json:"new_password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
	}
}

func (a *api) registerMe(h *httpx.API) {
	httpx.Handle(h, httpx.Op{
		ID: "me-get", Method: http.MethodGet, Path: "/api/v1/me", Permission: identity.Authenticated, Tag: "me", Summary: "Who I am",
		WhilePending: true,
	}, func(ctx context.Context, _ *struct{}) (*MeOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		profile, err := a.s.Me(ctx, p)
		if err != nil {
			return nil, err
		}
		return &MeOutput{Body: Me{
			User: profile.User, Tenant: profile.Tenant, Scope: p.Scope, Permissions: list(p.Permissions), Pending: p.Pending, SessionID: known(p.SessionID), APIKeyID: known(p.APIKeyID),
		}}, nil
	})
	httpx.Handle(h, httpx.Op{
		ID: "me-permissions", Method: http.MethodGet, Path: "/api/v1/me/permissions", Permission: identity.Authenticated, Tag: "me",
		Summary: "What I may do", WhilePending: true,
	}, func(ctx context.Context, _ *struct{}) (*GrantsOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &GrantsOutput{Body: Grants{Role: p.Role, Scope: p.Scope, TenantID: p.TenantID, Permissions: list(p.Permissions), Platform: platform(p)}}, nil
	})
	httpx.Handle(h, httpx.Op{
		ID: "me-tenants", Method: http.MethodGet, Path: "/api/v1/me/tenants", Permission: identity.Authenticated, Tag: "me",
		Summary:     "List the tenants that I can act in",
		Description: "By name. Send the id of one as X-Tenant-ID to act in it. Who holds permissions on the platform can act in every other tenant too. The list is never cut to pages.",
	}, func(ctx context.Context, _ *struct{}) (*Listed[auth.Tenant], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		tenants, err := a.s.MyTenants(ctx, p)
		return &Listed[auth.Tenant]{Body: httpx.Page[auth.Tenant]{Items: tenants}}, err
	})
	change := func(ctx context.Context, in *ChangePasswordInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.ChangePassword(ctx, p, in.Body.CurrentPassword, in.Body.NewPassword, client(ctx))
	}
	for id, method := range map[string]string{"me-password-put": http.MethodPut, "me-password-post": http.MethodPost} {
		httpx.Handle(h, httpx.Op{
			ID: id, Method: method, Path: "/api/v1/me/password", Permission: identity.Authenticated, Tag: "me", MaxBody: maxBody,
			Summary: "Change my password", Description: "All my other sessions end.", Status: http.StatusNoContent, WhilePending: true,
			Errors: []*errs.Error{auth.ErrWrongPassword, auth.ErrWeakPassword, auth.ErrThrottled, auth.ErrBusy, auth.ErrLoginNeeded},
		}, change)
	}
}

// RevokeAllInput says whether to spare the session that asks.
type RevokeAllInput struct {
	KeepCurrent bool `query:"keep_current" default:"true" doc:"Leave the session that asks alone."`
}

// SessionOutput carries one session.
type SessionOutput struct {
	Body auth.Session
}

func (a *api) registerSessions(h *httpx.API) {
	op := httpx.Op{Permission: identity.Authenticated, Tag: "me"}
	one := op
	one.Path, one.Errors = "/api/v1/me/sessions/{id}", []*errs.Error{auth.ErrSessionNotFound, auth.ErrLoginNeeded}
	all := op
	all.Path, all.Errors = "/api/v1/me/sessions", []*errs.Error{auth.ErrLoginNeeded}

	all.ID, all.Method, all.Summary = "me-session-list", http.MethodGet, "List my sessions"
	httpx.Handle(h, all, func(ctx context.Context, in *httpx.PageParams) (*Listed[auth.Session], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return page(*in, func(s auth.Session) httpx.Cursor { return httpx.Cursor{CreatedAt: s.CreatedAt, ID: s.ID} },
			func(after *store.After, limit int) ([]auth.Session, error) { return a.s.Sessions(ctx, p, after, limit) })
	})
	one.ID, one.Method, one.Summary = "me-session-get", http.MethodGet, "Show one of my sessions"
	httpx.Handle(h, one, func(ctx context.Context, in *ByID) (*SessionOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		session, err := a.s.Session(ctx, p, in.ID)
		return &SessionOutput{Body: session}, err
	})
	one.ID, one.Method, one.Summary, one.Status = "me-session-revoke", http.MethodDelete, "End one of my sessions", http.StatusNoContent
	httpx.Handle(h, one, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.RevokeSession(ctx, p, in.ID)
	})
	all.ID, all.Method, all.Summary, all.Status = "me-session-revoke-all", http.MethodDelete, "End my sessions", http.StatusNoContent
	httpx.Handle(h, all, func(ctx context.Context, in *RevokeAllInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.RevokeSessions(ctx, p, in.KeepCurrent)
	})
}

// known gives an id where there is one.
func known(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// platform lists the permissions that count in every tenant.
func platform(p identity.Principal) []string {
	if p.Scope == identity.ScopePlatform {
		return list(p.Permissions)
	}
	return list(p.Platform)
}

// list makes sure that JSON shows a list where there is nothing in it.
func list(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}
