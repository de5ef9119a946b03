package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
)

// MFARequired is what Login fails with where the password was right and the account has a second factor: LoginMFA goes on.
type MFARequired struct {
	Token   string
	Methods []string
}

// Error says what is asked for.
func (e *MFARequired) Error() string { return "the account asks for a second factor" }

// LoginMFA goes on with a login that asked for a second factor, and keeps the session's tokens.
func (c *Client) LoginMFA(ctx context.Context, username, token, code string) error {
	t, err := c.askTokens(ctx, "/auth/login/mfa", map[string]string{"mfa_token": token, "code": code})
	if err != nil {
		return err
	}
	t.Username = username
	return c.cfg.Tokens.Update(ctx, func(Tokens) (Tokens, error) { return t, nil })
}

// MFAStatus tells how it stands with the caller's second factor.
type MFAStatus struct {
	Enabled           bool       `json:"enabled"`
	EnabledAt         *time.Time `json:"enabled_at"`
	Methods           []string   `json:"methods"`
	RecoveryCodesLeft int        `json:"recovery_codes_left"`
	EnrolmentPending  bool       `json:"enrolment_pending"`
	Required          bool       `json:"required"`
}

// Enrolment is a new authenticator app's secret.
type Enrolment struct {
	Secret     string    `json:"secret"`
	OTPAuthURI string    `json:"otpauth_uri"`
	QRPNG      []byte    `json:"qr_png"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// RecoveryCodes are shown once.
type RecoveryCodes struct {
	RecoveryCodes []string `json:"recovery_codes"`
}

// Proof is the caller's password, or a code of their second factor; nothing where neither is asked for.
type Proof struct {
	Password string `json:"password,omitempty"`
	Code     string `json:"code,omitempty"`
}

const mfaPath = "/api/v1/me/mfa"

// MFA tells how it stands with the caller's second factor.
func (c *Client) MFA(ctx context.Context) (Object[MFAStatus], error) {
	return get[MFAStatus](ctx, c, mfaPath)
}

// EnrolMFA begins to set up an authenticator app.
func (c *Client) EnrolMFA(ctx context.Context, proof Proof) (Object[Enrolment], error) {
	return post[Enrolment](ctx, c, mfaPath+"/enrol", proof)
}

// ConfirmMFA confirms it with its first code.
func (c *Client) ConfirmMFA(ctx context.Context, code string) (Object[RecoveryCodes], error) {
	return post[RecoveryCodes](ctx, c, mfaPath+"/verify", map[string]string{"code": code})
}

// DisableMFA takes the caller's second factor away.
func (c *Client) DisableMFA(ctx context.Context, proof Proof) error {
	return c.json(ctx, call{method: http.MethodPost, path: mfaPath + "/disable", body: proof}, nil)
}

// NewRecoveryCodes replaces the caller's recovery codes.
func (c *Client) NewRecoveryCodes(ctx context.Context, proof Proof) (Object[RecoveryCodes], error) {
	return post[RecoveryCodes](ctx, c, mfaPath+"/recovery-codes", proof)
}

// ResetMFA takes the second factor of another user away.
func (c *Client) ResetMFA(ctx context.Context, user uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/users/" + user.String() + "/mfa"}, nil)
}

func policyScope(platform bool) url.Values {
	if platform {
		return url.Values{"scope": {"platform"}}
	}
	return nil
}

// MFAPolicy tells who must have a second factor, in the tenant or everywhere.
func (c *Client) MFAPolicy(ctx context.Context, platform bool) (Object[auth.MFAPolicy], error) {
	var o Object[auth.MFAPolicy]
	err := c.json(ctx, call{method: http.MethodGet, path: "/api/v1/mfa-policy", query: policyScope(platform)}, &o)
	return o, err
}

// SetMFAPolicy says so.
func (c *Client) SetMFAPolicy(ctx context.Context, platform, required bool, roles []string) (Object[auth.MFAPolicy], error) {
	var o Object[auth.MFAPolicy]
	body := map[string]any{"required": required, "roles": append([]string{}, roles...)}
	err := c.json(ctx, call{method: http.MethodPut, path: "/api/v1/mfa-policy", query: policyScope(platform), body: body}, &o)
	return o, err
}

// ListSessions gives the caller's sessions, newest first.
func (c *Client) ListSessions(ctx context.Context, most int) iter.Seq2[Object[auth.Session], error] {
	return list[auth.Session](ctx, c, "/api/v1/me/sessions", nil, most)
}

// RevokeSession ends one of the caller's sessions.
func (c *Client) RevokeSession(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/me/sessions/" + id.String()}, nil)
}

// RevokeSessions ends all of the caller's sessions, or all but the one that asks.
func (c *Client) RevokeSessions(ctx context.Context, keepCurrent bool) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/me/sessions", query: url.Values{"keep_current": {strconv.FormatBool(keepCurrent)}}}, nil)
}

// ForgotPassword has a link mailed to who has the address, if anybody.
func (c *Client) ForgotPassword(ctx context.Context, email string) error {
	return c.json(ctx, call{method: http.MethodPost, path: "/auth/password/forgot", body: map[string]string{"email": email}, anonymous: true}, nil)
}

// UseResetLink sets a password with the token of a link.
func (c *Client) UseResetLink(ctx context.Context, token, next string) error {
	return c.json(ctx, call{method: http.MethodPost, path: "/auth/password/reset", body: map[string]string{"token": token, "new_password": next}, anonymous: true}, nil)
}

// ResetLink is a link with which a user can set a password.
type ResetLink struct {
	UserID    uuid.UUID `json:"user_id"`
	Token     string    `json:"token"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewResetLink makes a link for a user.
func (c *Client) NewResetLink(ctx context.Context, user uuid.UUID) (Object[ResetLink], error) {
	return post[ResetLink](ctx, c, "/api/v1/users/"+user.String()+"/password-link", nil)
}
