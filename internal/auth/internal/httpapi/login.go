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

// LoginMFAInput is what POST /auth/login/mfa takes.
type LoginMFAInput struct {
	Body struct {
		MFAToken string `json:"mfa_token" minLength:"1" maxLength:"512" doc:"What the login answered." example:"ncm_Yq0c…"`
		Code     string `json:"code" minLength:"1" maxLength:"64" doc:"A code of the authenticator app, or a recovery code." example:"492039"`
	}
}

// LoginAnswer is what a login gives: tokens, or the way to the second factor.
type LoginAnswer struct {
	AccessToken  string `json:"access_token,omitempty" doc:"Send it as 'Authorization: Bearer …'." example:"eyJhbGciOiJSUzI1NiIs…"`
	RefreshToken string `json:"refresh_token,omitempty" doc:"Works once, at POST /auth/refresh." example:"ncr_nF2h…"`
	TokenType    string `json:"token_type,omitempty" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds until the access token ends, or mfa_token." example:"900"`
	// The session can do nothing else until then.
	PasswordChangeRequired bool `json:"password_change_required,omitempty" doc:"The password is a one-time one: PUT /api/v1/me/password replaces it, and nothing else works before."`
	MFAEnrolmentRequired   bool `json:"mfa_enrolment_required,omitempty" doc:"The tenant or the role asks for a second factor: POST /api/v1/me/mfa/enrol begins to set it up, and nothing else works before."`
	// With these there are no tokens yet.
	MFARequired bool     `json:"mfa_required,omitempty" doc:"There are no tokens yet: POST /auth/login/mfa takes mfa_token and a code."`
	MFAToken    string   `json:"mfa_token,omitempty" doc:"Stands for the password that was right, for a few minutes." example:"ncm_Yq0c…"`
	Methods     []string `json:"methods,omitempty" doc:"Ways to prove the second factor; others may be added." example:"[\"totp\",\"recovery_code\"]"`
}

// LoginOutput carries a LoginAnswer past every cache.
type LoginOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         LoginAnswer
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
		Summary: "Log in with user name and password",
		Description: "The answer holds tokens, or where the account has a second factor `mfa_required` and what to go on with. " +
			"Failed attempts make the next ones wait, per account and per address.",
		Errors: []*errs.Error{auth.ErrInvalidCredentials, auth.ErrThrottled, auth.ErrBusy, auth.ErrUnavailable},
	}, func(ctx context.Context, in *LoginInput) (*LoginOutput, error) {
		return loggedIn(a.s.Login(ctx, in.Body.Username, in.Body.Password, client(ctx)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "auth-login-mfa", Method: http.MethodPost, Path: "/auth/login/mfa", Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary: "Go on with a login: the second factor",
		Description: "Each code counts once, and recovery codes are used up. Wrong ones make the next ones wait; after five the login begins again with the " +
			"password.",
		Errors: []*errs.Error{auth.ErrMFAToken, auth.ErrMFACode, auth.ErrThrottled, auth.ErrMFAUnreadable, auth.ErrUnavailable},
	}, func(ctx context.Context, in *LoginMFAInput) (*LoginOutput, error) {
		return loggedIn(a.s.LoginMFA(ctx, in.Body.MFAToken, in.Body.Code, client(ctx)))
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

func loggedIn(t service.Tokens, err error) (*LoginOutput, error) {
	if err != nil {
		return nil, err
	}
	answer := LoginAnswer{ExpiresIn: int(t.ExpiresIn.Seconds())}
	if t.Challenge != "" {
		answer.MFARequired, answer.MFAToken, answer.Methods = true, t.Challenge, t.Methods
	} else {
		answer.AccessToken, answer.RefreshToken, answer.TokenType = t.Access, t.Refresh, "Bearer"
		answer.PasswordChangeRequired, answer.MFAEnrolmentRequired = t.ChangeRequired, t.EnrolmentRequired
	}
	return &LoginOutput{CacheControl: noStore, Body: answer}, nil
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
