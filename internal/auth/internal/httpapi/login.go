package httpapi

import (
	"context"
	"net/http"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// LoginInput is what POST /auth/login takes.
type LoginInput struct {
	Body struct {
		Username string `json:"username" minLength:"1" maxLength:"255" example:"ada"`
		Password string `json:"password" minLength:"1" maxLength:"1024" example:"correct horse battery staple"`
	}
}

// RegisterInput is what POST /auth/register takes.
type RegisterInput struct {
	Body struct {
		Username string `json:"username" pattern:"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}$" patternDescription:"letters, digits and ._@+-, 63 at most, the first a letter or digit" maxLength:"63" example:"ada"`
		Email    string `json:"email,omitempty" format:"email" maxLength:"254" example:"ada@example.org"`
		Password string `json:"password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
	}
}

// RefreshInput is what POST /auth/refresh takes.
type RefreshInput struct {
	Body struct {
		RefreshToken string `json:"refresh_token" minLength:"1" maxLength:"512" example:"ncr_nF2h…"`
	}
}

// TokenSet is what a login or a refresh gives.
type TokenSet struct {
	AccessToken  string `json:"access_token" doc:"Send it as 'Authorization: Bearer …'." example:"eyJhbGciOiJSUzI1NiIs…"`
	RefreshToken string `json:"refresh_token" doc:"Works once, at POST /auth/refresh." example:"ncr_nF2h…"`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds until the access token ends." example:"900"`
	// The session can do nothing else until then.
	PasswordChangeRequired bool `json:"password_change_required,omitempty" doc:"The password is a one-time one: PUT /api/v1/me/password replaces it, and nothing else works before."`
}

// TokenOutput carries a TokenSet past every cache.
type TokenOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         TokenSet
}

// KeysOutput carries the public keys.
type KeysOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         token.JWKS
}

func (a *api) registerLogin(h *httpx.API) {
	httpx.Handle(h, httpx.Op{
		ID: "auth-login", Method: http.MethodPost, Path: "/auth/login", Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary:     "Log in with user name and password",
		Description: "Failed attempts make the next ones wait, per account and per address.",
		Errors:      []*errs.Error{auth.ErrInvalidCredentials, auth.ErrThrottled, auth.ErrBusy, auth.ErrUnavailable},
	}, func(ctx context.Context, in *LoginInput) (*TokenOutput, error) {
		return tokens(a.s.Login(ctx, in.Body.Username, in.Body.Password, client(ctx)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "auth-refresh", Method: http.MethodPost, Path: "/auth/refresh", Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary:     "Exchange a refresh token for new tokens",
		Description: "A refresh token works once. A second use ends the session: one of the two users has stolen it.",
		Errors:      []*errs.Error{auth.ErrInvalidToken, auth.ErrSessionRevoked, auth.ErrSessionExpired},
	}, func(ctx context.Context, in *RefreshInput) (*TokenOutput, error) {
		return tokens(a.s.Refresh(ctx, in.Body.RefreshToken, client(ctx)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "auth-register", Method: http.MethodPost, Path: "/auth/register", Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary:     "Make an account for myself",
		Description: "Off unless the operator has switched it on. The account has the role user.", Status: http.StatusCreated,
		Errors: []*errs.Error{auth.ErrRegistrationOff, auth.ErrUsernameTaken, auth.ErrEmailTaken, auth.ErrWeakPassword, auth.ErrThrottled, auth.ErrBusy},
	}, func(ctx context.Context, in *RegisterInput) (*Versioned[auth.User], error) {
		return versionedUser(a.s.Register(ctx, service.NewUser{Username: in.Body.Username, Email: in.Body.Email, Password: in.Body.Password}, client(ctx)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "auth-logout", Method: http.MethodPost, Path: "/auth/logout", Permission: identity.Authenticated, Tag: "auth",
		Summary: "End the session", Description: "Its access and refresh tokens stop working at once.", Status: http.StatusNoContent, WhilePending: true,
		Errors: []*errs.Error{auth.ErrLoginNeeded},
	}, func(ctx context.Context, _ *struct{}) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.Logout(ctx, p)
	})
	httpx.Handle(h, httpx.Op{
		ID: "auth-jwks", Method: http.MethodGet, Path: "/.well-known/jwks.json", Permission: identity.Public, Tag: "auth",
		Summary: "The public keys that access tokens are signed with", Description: "A JSON Web Key Set, RFC 7517.",
	}, func(context.Context, *struct{}) (*KeysOutput, error) {
		return &KeysOutput{CacheControl: "public, max-age=300", Body: a.ring.JWKS()}, nil
	})
}

func tokens(t service.Tokens, err error) (*TokenOutput, error) {
	if err != nil {
		return nil, err
	}
	return &TokenOutput{CacheControl: noStore, Body: TokenSet{
		AccessToken: t.Access, RefreshToken: t.Refresh, TokenType: "Bearer", ExpiresIn: int(t.ExpiresIn.Seconds()),
		PasswordChangeRequired: t.ChangeRequired,
	}}, nil
}
