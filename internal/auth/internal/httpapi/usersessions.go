package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// UserSessionsInput asks for a page of a user's sessions.
type UserSessionsInput struct {
	ByID
	httpx.PageParams
}

// UserSessionInput names one session of a user.
type UserSessionInput struct {
	ByID
	SessionID uuid.UUID `path:"session_id" format:"uuid"`
}

func (a *api) registerUserSessions(h *httpx.API) {
	const path = "/api/v1/users/{id}/sessions"
	httpx.Handle(h, httpx.Op{ID: "user-session-list", Method: http.MethodGet, Path: path, Permission: service.PermSessionRead, Tag: "users",
		Summary: "List a user's live sessions", Errors: []*errs.Error{auth.ErrUserNotFound}},
		func(ctx context.Context, in *UserSessionsInput) (*Listed[auth.Session], error) {
			p, err := caller(ctx)
			if err != nil {
				return nil, err
			}
			return page(in.PageParams, func(s auth.Session) httpx.Cursor { return httpx.Cursor{CreatedAt: s.CreatedAt, ID: s.ID} },
				func(after *store.After, limit int) ([]auth.Session, error) {
					return a.s.UserSessions(ctx, p, in.ID, after, limit)
				})
		})
	httpx.Handle(h, httpx.Op{ID: "user-session-revoke-all", Method: http.MethodDelete, Path: path, Permission: service.PermSessionWrite, Tag: "users",
		Summary: "End all of a user's sessions", Status: http.StatusNoContent, Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn},
		Description: "Effective on every process within a second, also on consoles that are open. The user can log in again; to prevent that, disable the account."},
		func(ctx context.Context, in *ByID) (*Empty, error) {
			p, err := caller(ctx)
			if err != nil {
				return nil, err
			}
			return &Empty{}, a.s.RevokeUserSessions(ctx, p, in.ID)
		})
	httpx.Handle(h, httpx.Op{ID: "user-session-revoke", Method: http.MethodDelete, Path: path + "/{session_id}", Permission: service.PermSessionWrite, Tag: "users",
		Summary: "End one of a user's sessions", Status: http.StatusNoContent,
		Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrSessionNotFound, auth.ErrGrantExceedsOwn}},
		func(ctx context.Context, in *UserSessionInput) (*Empty, error) {
			p, err := caller(ctx)
			if err != nil {
				return nil, err
			}
			return &Empty{}, a.s.RevokeUserSession(ctx, p, in.ID, in.SessionID)
		})
}
