package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

const mfaPath = "/api/v1/me/mfa"

// MFAStatus tells how it stands with the caller's second factor.
type MFAStatus struct {
	Enabled           bool       `json:"enabled"`
	EnabledAt         *time.Time `json:"enabled_at,omitempty"`
	Methods           []string   `json:"methods" nullable:"false" doc:"Ways to prove it." example:"[\"totp\",\"recovery_code\"]"`
	RecoveryCodesLeft int        `json:"recovery_codes_left" example:"10"`
	EnrolmentPending  bool       `json:"enrolment_pending" doc:"A new authenticator app waits for its first code."`
	Required          bool       `json:"required" doc:"The tenant or the role asks for one, so it cannot be taken away."`
}

// MFAStatusOutput carries it.
type MFAStatusOutput struct {
	Body MFAStatus
}

// ProofInput is what asks for the password, or a code, once more. Either will do.
type ProofInput struct {
	Body *struct {
		Password string `json:"password,omitempty" maxLength:"1024" doc:"The current password."`
		Code     string `json:"code,omitempty" maxLength:"64" doc:"A code of the authenticator app, or a recovery code." example:"492039"`
	} `required:"false"`
}

func (in *ProofInput) proof() service.Proof {
	if in.Body == nil {
		return service.Proof{}
	}
	return service.Proof{Password: in.Body.Password, Code: in.Body.Code}
}

// CodeInput is what confirms a new authenticator app.
type CodeInput struct {
	Body struct {
		Code string `json:"code" minLength:"1" maxLength:"64" doc:"The code that the app shows." example:"492039"`
	}
}

// Enrolment is a new authenticator app's secret.
type Enrolment struct {
	Secret     string    `json:"secret" doc:"To type into an app that cannot see." example:"JBSWY3DPEHPK3PXP"`
	OTPAuthURI string    `json:"otpauth_uri" doc:"What the QR code says." example:"otpauth://totp/novacron:ada?secret=JBSWY3DPEHPK3PXP&issuer=novacron"`
	QRPNG      string    `json:"qr_png" doc:"The QR code, a PNG picture in base64."`
	ExpiresAt  time.Time `json:"expires_at" doc:"Until then it waits for POST /api/v1/me/mfa/verify."`
}

// EnrolmentOutput carries it past every cache.
type EnrolmentOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Enrolment
}

// RecoveryCodes are shown this one time.
type RecoveryCodes struct {
	RecoveryCodes []string `json:"recovery_codes" nullable:"false" doc:"Each works once instead of a code of the app. They are not shown again." example:"[\"3kfa-9x2b-77qa-mzpd\"]"`
}

// RecoveryCodesOutput carries them past every cache.
type RecoveryCodesOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         RecoveryCodes
}

func recoveryCodes(codes []string, err error) (*RecoveryCodesOutput, error) {
	if err != nil {
		return nil, err
	}
	return &RecoveryCodesOutput{CacheControl: noStore, Body: RecoveryCodes{RecoveryCodes: codes}}, nil
}

func (a *api) registerMFA(h *httpx.API) {
	proving := []*errs.Error{auth.ErrWrongPassword, auth.ErrWrongCode, auth.ErrReauthenticate, auth.ErrThrottled, auth.ErrBusy, auth.ErrLoginNeeded, auth.ErrMFAUnreadable}
	op := httpx.Op{Permission: identity.Authenticated, Tag: "me", MaxBody: maxBody, WhilePending: true}

	get := op
	get.ID, get.Method, get.Path, get.Summary = "me-mfa", http.MethodGet, mfaPath, "How it stands with my second factor"
	get.Errors = []*errs.Error{auth.ErrLoginNeeded}
	httpx.Handle(h, get, func(ctx context.Context, _ *struct{}) (*MFAStatusOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		m, err := a.s.MFA(ctx, p)
		status := MFAStatus{Enabled: m.Enabled, EnabledAt: m.EnabledAt, Methods: []string{}, RecoveryCodesLeft: m.RecoveryCodesLeft, EnrolmentPending: m.Pending, Required: m.Required}
		if m.Enabled {
			status.Methods = []string{service.MethodTOTP, service.MethodRecovery}
		}
		return &MFAStatusOutput{Body: status}, err
	})

	enrol := op
	enrol.ID, enrol.Method, enrol.Path, enrol.Summary = "me-mfa-enrol", http.MethodPost, mfaPath+"/enrol", "Begin to set up an authenticator app"
	enrol.Description = "Some minutes after the login, or where there is an app already, it takes the password or a code. The app in force stays so until the new one is confirmed."
	enrol.Errors = proving
	httpx.Handle(h, enrol, func(ctx context.Context, in *ProofInput) (*EnrolmentOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		e, err := a.s.EnrolMFA(ctx, p, in.proof(), client(ctx))
		if err != nil {
			return nil, err
		}
		return &EnrolmentOutput{CacheControl: noStore, Body: Enrolment{
			Secret: e.Secret, OTPAuthURI: e.URI, QRPNG: base64.StdEncoding.EncodeToString(e.PNG), ExpiresAt: e.ExpiresAt,
		}}, nil
	})

	verify := op
	verify.ID, verify.Method, verify.Path, verify.Summary = "me-mfa-verify", http.MethodPost, mfaPath+"/verify", "Confirm the new authenticator app with its first code"
	verify.Description = "From then on logins ask for it. The answer holds the recovery codes. All my other sessions end."
	verify.Errors = []*errs.Error{auth.ErrWrongCode, auth.ErrMFANotPending, auth.ErrThrottled, auth.ErrLoginNeeded, auth.ErrMFAUnreadable}
	httpx.Handle(h, verify, func(ctx context.Context, in *CodeInput) (*RecoveryCodesOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return recoveryCodes(a.s.ConfirmMFA(ctx, p, in.Body.Code, client(ctx)))
	})

	disable := op
	disable.ID, disable.Method, disable.Path, disable.Summary = "me-mfa-disable", http.MethodPost, mfaPath+"/disable", "Take my second factor away"
	disable.Status, disable.Errors = http.StatusNoContent, append([]*errs.Error{auth.ErrMFAOff, auth.ErrMFARequired}, proving...)
	httpx.Handle(h, disable, func(ctx context.Context, in *ProofInput) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.DisableMFA(ctx, p, in.proof(), client(ctx))
	})

	renew := op
	renew.ID, renew.Method, renew.Path, renew.Summary = "me-mfa-recovery-codes", http.MethodPost, mfaPath+"/recovery-codes", "Get new recovery codes"
	renew.Description, renew.Errors = "The old ones end.", append([]*errs.Error{auth.ErrMFAOff}, proving...)
	httpx.Handle(h, renew, func(ctx context.Context, in *ProofInput) (*RecoveryCodesOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return recoveryCodes(a.s.RenewRecoveryCodes(ctx, p, in.proof(), client(ctx)))
	})

	httpx.Handle(h, httpx.Op{
		ID: "user-mfa-reset", Method: http.MethodDelete, Path: "/api/v1/users/{id}/mfa", Permission: userWrite, Tag: "users",
		Summary: "Take away the second factor of a user who has lost it", Description: "All their sessions end. Nobody does so to who holds more than themselves.",
		Status: http.StatusNoContent, Errors: []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn, auth.ErrOwnMFA},
	}, func(ctx context.Context, in *ByID) (*Empty, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return &Empty{}, a.s.ResetMFA(ctx, p, in.ID)
	})
}

// MFAPolicyInput says which policy is meant.
type MFAPolicyInput struct {
	Scope string `query:"scope" enum:"tenant,platform" default:"tenant" doc:"tenant: the one that you act in, and its projects. platform: everywhere, which takes the permission there."`
}

// SetMFAPolicyInput is what PUT /api/v1/mfa-policy takes.
type SetMFAPolicyInput struct {
	MFAPolicyInput
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the policy that is to be replaced."`
	Body    struct {
		Required bool     `json:"required" doc:"Everybody must have a second factor."`
		Roles    []string `json:"roles,omitempty" maxItems:"100" doc:"Who has one of these roles must have one." example:"[\"admin\",\"operator\"]"`
	}
}

// policyTag is the ETag of a policy: what it says.
func policyTag(p auth.MFAPolicy) string {
	text, err := json.Marshal(p)
	if err != nil {
		return "" // it is made of text and truth values, which have a form
	}
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func taggedPolicy(p auth.MFAPolicy, err error) (*Versioned[auth.MFAPolicy], error) {
	return &Versioned[auth.MFAPolicy]{ETag: policyTag(p), Body: p}, err
}

func (a *api) registerMFAPolicy(h *httpx.API) {
	const path = "/api/v1/mfa-policy"
	httpx.Handle(h, httpx.Op{
		ID: "mfa-policy-get", Method: http.MethodGet, Path: path, Permission: "mfa-policy:read", Tag: "tenants",
		Summary: "Show who must have a second factor", Errors: []*errs.Error{auth.ErrPlatformOnly},
	}, func(ctx context.Context, in *MFAPolicyInput) (*Versioned[auth.MFAPolicy], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		return taggedPolicy(a.s.MFAPolicy(ctx, p, identity.Scope(in.Scope)))
	})
	httpx.Handle(h, httpx.Op{
		ID: "mfa-policy-set", Method: http.MethodPut, Path: path, Permission: "mfa-policy:write", Tag: "tenants", MaxBody: maxBody,
		Summary: "Say who must have a second factor",
		Description: "It counts at once, for open sessions and API keys too: who lacks it can do nothing but set it up. That goes for you as well. What is asked for on the " +
			"platform, or in the organisation of a project, cannot be waived below.",
		Errors: []*errs.Error{auth.ErrPlatformOnly, auth.ErrUnknownRole, auth.ErrTenantDisabled, auth.ErrVersion},
	}, func(ctx context.Context, in *SetMFAPolicyInput) (*Versioned[auth.MFAPolicy], error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		var matches func(auth.MFAPolicy) bool
		if in.IfMatch != "" && in.IfMatch != "*" {
			matches = func(now auth.MFAPolicy) bool { return policyTag(now) == in.IfMatch }
		}
		return taggedPolicy(a.s.SetMFAPolicy(ctx, p, identity.Scope(in.Scope), auth.MFAPolicy{Required: in.Body.Required, Roles: in.Body.Roles}, matches))
	})
}
