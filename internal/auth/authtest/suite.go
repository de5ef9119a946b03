package authtest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Harness arranges what an implementation is then asked about.
type Harness interface {
	Service() auth.Service
	AddUser(t *testing.T, username, role string) auth.User
	// Token gives an access token of a new session of the user.
	Token(t *testing.T, userID uuid.UUID) string
	// ExpiredToken gives one that was good and whose time is over.
	ExpiredToken(t *testing.T, userID uuid.UUID) string
	// Revoke ends the session of a token.
	Revoke(t *testing.T, token string)
	ChangeRole(t *testing.T, userID uuid.UUID, role string)
	Disable(t *testing.T, userID uuid.UUID)
	RevokeAPIKey(t *testing.T, id uuid.UUID)
	// Forward puts the clock of the implementation forward.
	Forward(t *testing.T, d time.Duration)
	AddTenant(t *testing.T, name string) uuid.UUID
	// Bind gives a user a role in a tenant; nil is the platform.
	Bind(t *testing.T, userID, tenantID uuid.UUID, role string)
}

// Run runs the suite. Each test gets a harness of its own.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"a token tells who its holder is", tellsHolder},
		{"bad tokens are refused", refusesBadTokens},
		{"an expired token says so", saysExpired},
		{"a revoked session ends at once, and no other", revokesOne},
		{"a disabled user is out", disables},
		{"a change of role counts at once", changesRole},
		{"permissions of users", givesPermissions},
		{"roles count where they are bound", bindsRoles},
		{"many ask at once", bearsCrowds},
		{"answers survive encoding", survivesEncoding},
		{"an API key stands for its owner", keyStandsForOwner},
		{"an API key never does more than its owner", keyBoundByOwner},
		{"bad API keys are refused", refusesBadKeys},
		{"an API key acts in other tenants as its owner does", keyActsElsewhere},
		{"an expired API key says so", keyExpires},
		{"a revoked API key ends at once, and no other", keyRevoked},
		{"nobody makes an API key that does more than they", keyCannotEscalate},
		{"API keys that cannot be are refused", keySpecChecked},
		{"answers about API keys survive encoding", keySurvivesEncoding},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func validate(t *testing.T, h Harness, token string) (auth.ValidateTokenResponse, error) {
	t.Helper()
	return h.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token})
}

func mustValidate(t *testing.T, h Harness, token string) auth.ValidateTokenResponse {
	t.Helper()
	resp, err := validate(t, h, token)
	if err != nil {
		t.Fatalf("a good token: %v", err)
	}
	return resp
}

func wantError(t *testing.T, h Harness, token string, want *errs.Error) {
	t.Helper()
	if resp, err := validate(t, h, token); !errors.Is(err, want) {
		t.Errorf("token %.40q: got %+v, error %v, want %v", token, resp, err, want)
	}
}

func tellsHolder(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleViewer)
	first, second := h.Token(t, u.ID), h.Token(t, u.ID)
	resp := mustValidate(t, h, first)
	p := resp.Principal
	if p.UserID != u.ID || p.Username != "ada" || p.TenantID != u.TenantID || p.Role != auth.RoleViewer || p.Scope != identity.ScopeTenant {
		t.Errorf("principal %+v of user %+v", p, u)
	}
	if !p.Allows("vm:read") || p.Allows("vm:create") || p.AllowsPlatform("vm:read") {
		t.Errorf("a viewer holds %v", p.Permissions)
	}
	if p.SessionID == uuid.Nil || p.SessionID == mustValidate(t, h, second).Principal.SessionID {
		t.Errorf("two logins share session %s", p.SessionID)
	}
	if !resp.ExpiresAt.After(time.Now()) {
		t.Errorf("a good token ended at %v", resp.ExpiresAt)
	}
	if again := mustValidate(t, h, first); !cmp.Equal(again, resp) {
		t.Errorf("asked again: %s", cmp.Diff(resp, again))
	}
	root := h.AddUser(t, "root", auth.RoleAdmin)
	if p := mustValidate(t, h, h.Token(t, root.ID)).Principal; !p.AllowsPlatform("tenant:write") {
		t.Errorf("an administrator is %+v", p)
	}
}

func refusesBadTokens(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	good := h.Token(t, u.ID)
	for _, bad := range []string{
		"", " ", ".", "..", "null", good + " ", " " + good, good + ".", good[1:], good + good, good + "\n", "Bearer " + good,
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", strings.Repeat("a", auth.MaxTokenBytes+1), "\x00\xff",
	} {
		wantError(t, h, bad, auth.ErrInvalidToken)
	}
	mustValidate(t, h, good)
}

func saysExpired(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	wantError(t, h, h.ExpiredToken(t, u.ID), auth.ErrTokenExpired)
}

func revokesOne(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	first, second := h.Token(t, u.ID), h.Token(t, u.ID)
	mustValidate(t, h, first)
	h.Revoke(t, first)
	wantError(t, h, first, auth.ErrSessionRevoked)
	wantError(t, h, first, auth.ErrSessionRevoked)
	mustValidate(t, h, second)
}

func disables(t *testing.T, h Harness) {
	u, other := h.AddUser(t, "ada", auth.RoleUser), h.AddUser(t, "bob", auth.RoleUser)
	token, others := h.Token(t, u.ID), h.Token(t, other.ID)
	mustValidate(t, h, token)
	h.Disable(t, u.ID)
	wantError(t, h, token, auth.ErrSessionRevoked)
	mustValidate(t, h, others)
}

func changesRole(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleViewer)
	token := h.Token(t, u.ID)
	mustValidate(t, h, token)
	h.ChangeRole(t, u.ID, auth.RoleUser)
	if p := mustValidate(t, h, token).Principal; p.Role != auth.RoleUser || !p.Allows("vm:create") {
		t.Errorf("after the change: %+v", p)
	}
}

func givesPermissions(t *testing.T, h Harness) {
	for _, role := range []string{auth.RoleAdmin, auth.RoleOperator, auth.RoleUser, auth.RoleViewer, auth.RoleAuditor} {
		u := h.AddUser(t, "u-"+role, role)
		resp, err := h.Service().GetUserPermissions(t.Context(), auth.GetUserPermissionsRequest{UserID: u.ID})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Permissions) == 0 || !slices.IsSorted(resp.Permissions) {
			t.Errorf("%s: %v is empty or not sorted", role, resp.Permissions)
		}
		if held := mustValidate(t, h, h.Token(t, u.ID)).Principal.Permissions; !slices.Equal(held, resp.Permissions) {
			t.Errorf("%s: a token gives %v, a question %v", role, held, resp.Permissions)
		}
	}
	gone := h.AddUser(t, "gone", auth.RoleUser)
	h.Disable(t, gone.ID)
	for _, id := range []uuid.UUID{uuid.New(), uuid.Nil, gone.ID} {
		_, err := h.Service().GetUserPermissions(t.Context(), auth.GetUserPermissionsRequest{UserID: id})
		if !errors.Is(err, auth.ErrUserNotFound) {
			t.Errorf("user %s: %v, want %v", id, err, auth.ErrUserNotFound)
		}
	}
}

func bindsRoles(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleViewer)
	token := h.Token(t, u.ID)
	red, blue := h.AddTenant(t, "red"), h.AddTenant(t, "blue")
	in := func(tenant uuid.UUID) (identity.Principal, error) {
		resp, err := h.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token, TenantID: tenant})
		return resp.Principal, err
	}
	for _, tenant := range []uuid.UUID{red, blue, uuid.New()} {
		if p, err := in(tenant); !errors.Is(err, auth.ErrNoRole) {
			t.Errorf("without a role: %+v, error %v", p, err)
		}
	}
	h.Bind(t, u.ID, red, auth.RoleOperator)
	p, err := in(red)
	if err != nil {
		t.Fatal(err)
	}
	if p.TenantID != red || p.HomeID != u.TenantID || !p.Allows("user:read") || p.AllowsPlatform("vm:read") || p.UserID != u.ID {
		t.Errorf("in the tenant of the binding: %+v", p)
	}
	if home := mustValidate(t, h, token).Principal; home.TenantID != u.TenantID || home.Allows("user:read") {
		t.Errorf("at home: %+v", home)
	}
	if p, err := in(blue); !errors.Is(err, auth.ErrNoRole) {
		t.Errorf("in another tenant: %+v, error %v", p, err)
	}
	asked, err := h.Service().GetUserPermissions(t.Context(), auth.GetUserPermissionsRequest{UserID: u.ID, TenantID: red})
	if err != nil || !slices.Equal(asked.Permissions, p.Permissions) || len(asked.Platform) != 0 || !slices.Equal(asked.Roles, []string{auth.RoleOperator}) {
		t.Errorf("asked for red: %+v, error %v", asked, err)
	}
	asked, err = h.Service().GetUserPermissions(t.Context(), auth.GetUserPermissionsRequest{UserID: u.ID, TenantID: blue})
	if err != nil || len(asked.Permissions) != 0 || asked.Permissions == nil {
		t.Errorf("asked for blue: %+v, error %v", asked, err)
	}
	h.Bind(t, u.ID, uuid.Nil, auth.RoleAuditor)
	if p, err := in(blue); err != nil || !p.AllowsPlatform("audit:read") || p.Allows("vm:create") || p.Scope != identity.ScopePlatform {
		t.Errorf("in another tenant, with a role on the platform: %+v, error %v", p, err)
	}
	if p, err := in(red); err != nil || !p.AllowsPlatform("audit:read") || !p.Allows("vm:create") || p.AllowsPlatform("vm:create") || p.Scope != identity.ScopeTenant {
		t.Errorf("with roles of both scopes: %+v, error %v", p, err)
	}
	if p := mustValidate(t, h, token).Principal; !p.AllowsPlatform("audit:read") {
		t.Errorf("at home, with a role on the platform: %+v", p)
	}
}

func bearsCrowds(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	token := h.Token(t, u.ID)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := validate(t, h, token); err != nil && !errors.Is(err, auth.ErrSessionRevoked) {
					t.Errorf("in a crowd: %v", err)
				}
			}
		})
	}
	h.Revoke(t, token)
	wg.Wait()
	wantError(t, h, token, auth.ErrSessionRevoked)
}

func survivesEncoding(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleOperator)
	resp := mustValidate(t, h, h.Token(t, u.ID))
	b, err := json.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var back auth.ValidateTokenResponse
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(resp, back) {
		t.Errorf("after a journey: %s", cmp.Diff(resp, back))
	}
	_, err = validate(t, h, "nonsense")
	if !errors.Is(errs.Decode(errs.Encode(err)), auth.ErrInvalidToken) {
		t.Errorf("the error %v does not survive", err)
	}
}
