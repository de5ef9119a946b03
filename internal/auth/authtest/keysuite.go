package authtest

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

func validateKey(t *testing.T, h Harness, key string) (auth.ValidateAPIKeyResponse, error) {
	t.Helper()
	return h.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: key, Client: netip.MustParseAddr("192.0.2.77")})
}

func mustValidateKey(t *testing.T, h Harness, key string) auth.ValidateAPIKeyResponse {
	t.Helper()
	resp, err := validateKey(t, h, key)
	if err != nil {
		t.Fatalf("a good key: %v", err)
	}
	return resp
}

func wantKeyError(t *testing.T, h Harness, key string, want *errs.Error) {
	t.Helper()
	if resp, err := validateKey(t, h, key); !errors.Is(err, want) {
		t.Errorf("key %.80q: got %+v, error %v, want %v", key, resp, err, want)
	}
}

// principalOf logs a user in.
func principalOf(t *testing.T, h Harness, u auth.User) identity.Principal {
	t.Helper()
	return mustValidate(t, h, h.Token(t, u.ID)).Principal
}

func createKey(t *testing.T, h Harness, req auth.CreateAPIKeyRequest) auth.CreateAPIKeyResponse {
	t.Helper()
	if req.Name == "" {
		req.Name = "ci"
	}
	resp, err := h.Service().CreateAPIKey(t.Context(), req)
	if err != nil {
		t.Fatalf("create key %+v: %v", req, err)
	}
	return resp
}

func keyStandsForOwner(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	p := principalOf(t, h, u)
	made := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p, Name: " deploy "})
	k := made.APIKey
	if k.Name != "deploy" || k.UserID != u.ID || k.Username != "ada" || k.TenantID != u.TenantID || k.Permissions != nil || k.ExpiresAt != nil || k.Version != 1 ||
		k.CreatedBy == nil || *k.CreatedBy != u.ID || k.LastUsedAt != nil {
		t.Errorf("made %+v", k)
	}
	if !strings.HasPrefix(k.Prefix, auth.APIKeyMark) || !strings.HasPrefix(made.Secret, k.Prefix+"_") || len(made.Secret) < len(k.Prefix)+20 || len(made.Secret) > auth.MaxAPIKeyBytes {
		t.Errorf("the key of prefix %q is %d bytes long and begins with %.16q", k.Prefix, len(made.Secret), made.Secret)
	}
	resp := mustValidateKey(t, h, made.Secret)
	want := p
	want.SessionID, want.APIKeyID = uuid.Nil, k.ID
	if !cmp.Equal(resp.Principal, want) || resp.ExpiresAt != nil {
		t.Errorf("the key stands for %s until %v", cmp.Diff(want, resp.Principal), resp.ExpiresAt)
	}
	other := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p})
	if other.Secret == made.Secret || other.APIKey.Prefix == k.Prefix || other.APIKey.ID == k.ID {
		t.Errorf("two keys are alike: %+v, %+v", k, other.APIKey)
	}
}

func keyBoundByOwner(t *testing.T, h Harness) {
	u := h.AddUser(t, "ada", auth.RoleUser)
	bounded := createKey(t, h, auth.CreateAPIKeyRequest{Actor: principalOf(t, h, u), Permissions: []string{"vm:*", "image:read"}}).Secret
	whole := createKey(t, h, auth.CreateAPIKeyRequest{Actor: principalOf(t, h, u)}).Secret
	check := func(secret string, allowed, refused []string) {
		t.Helper()
		p := mustValidateKey(t, h, secret).Principal
		for _, permission := range allowed {
			if !p.Allows(permission) {
				t.Errorf("%s is refused by %v", permission, p.Permissions)
			}
		}
		for _, permission := range refused {
			if p.Allows(permission) {
				t.Errorf("%s is allowed by %v", permission, p.Permissions)
			}
		}
	}
	check(bounded, []string{"vm:create", "vm:read", "image:read"}, []string{"image:create", "network:read", "user:write", "api-key:write"})
	check(whole, []string{"vm:create", "image:create", "network:read"}, []string{"user:write"})
	h.ChangeRole(t, u.ID, auth.RoleViewer) // what the owner loses, the keys lose
	check(bounded, []string{"vm:read", "image:read"}, []string{"vm:create", "image:create", "network:read"})
	check(whole, []string{"vm:read", "network:read"}, []string{"vm:create", "image:create"})
	h.ChangeRole(t, u.ID, auth.RoleAdmin) // and what they gain goes no farther than the key was meant to
	check(bounded, []string{"vm:create", "image:read"}, []string{"image:create", "network:read", "user:write"})
	if p := mustValidateKey(t, h, whole).Principal; p.Scope != identity.ScopeTenant {
		t.Errorf("a key made within a tenant reaches the %s", p.Scope)
	}
	root := principalOf(t, h, h.AddUser(t, "root", auth.RoleAdmin))
	if p := mustValidateKey(t, h, createKey(t, h, auth.CreateAPIKeyRequest{Actor: root, Scope: identity.ScopeTenant}).Secret).Principal; p.Scope != identity.ScopeTenant || !p.Allows("user:write") {
		t.Errorf("a key for one tenant: %+v", p)
	}
	if p := mustValidateKey(t, h, createKey(t, h, auth.CreateAPIKeyRequest{Actor: root}).Secret).Principal; !p.AllowsPlatform("tenant:write") {
		t.Errorf("an administrator's key: %+v", p)
	}
	h.Disable(t, u.ID)
	wantKeyError(t, h, bounded, auth.ErrAPIKeyRevoked)
}

func refusesBadKeys(t *testing.T, h Harness) {
	p := principalOf(t, h, h.AddUser(t, "ada", auth.RoleUser))
	made := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p})
	good := made.Secret
	other := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p}).Secret
	for _, bad := range []string{
		"", " ", "nck_", made.APIKey.Prefix, made.APIKey.Prefix + "_", good + " ", " " + good, good[1:], good[:len(good)-1], good + good, good + "\n",
		strings.ToUpper(good), made.APIKey.Prefix + other[len(made.APIKey.Prefix):], strings.Repeat("a", 1<<16), "\x00\xff",
	} {
		wantKeyError(t, h, bad, auth.ErrInvalidAPIKey)
	}
	mustValidateKey(t, h, good)
	wantError(t, h, good, auth.ErrInvalidToken) // a key is no token
	token := h.Token(t, p.UserID)
	wantKeyError(t, h, token, auth.ErrInvalidAPIKey)
}

func keyExpires(t *testing.T, h Harness) {
	p := principalOf(t, h, h.AddUser(t, "ada", auth.RoleUser))
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	short := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p, ExpiresAt: &ends}).Secret
	long := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p}).Secret
	if resp := mustValidateKey(t, h, short); resp.ExpiresAt == nil || !resp.ExpiresAt.Equal(ends) {
		t.Errorf("ends at %v, want %v", resp.ExpiresAt, ends)
	}
	h.Forward(t, 2*time.Hour)
	wantKeyError(t, h, short, auth.ErrAPIKeyExpired)
	mustValidateKey(t, h, long)
}

func keyRevoked(t *testing.T, h Harness) {
	p := principalOf(t, h, h.AddUser(t, "ada", auth.RoleUser))
	first, second := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p}), createKey(t, h, auth.CreateAPIKeyRequest{Actor: p})
	mustValidateKey(t, h, first.Secret)
	h.RevokeAPIKey(t, first.APIKey.ID)
	wantKeyError(t, h, first.Secret, auth.ErrAPIKeyRevoked)
	wantKeyError(t, h, first.Secret, auth.ErrAPIKeyRevoked)
	mustValidateKey(t, h, second.Secret)
}

func keyCannotEscalate(t *testing.T, h Harness) {
	ada, bob, root := h.AddUser(t, "ada", auth.RoleUser), h.AddUser(t, "bob", auth.RoleViewer), h.AddUser(t, "root", auth.RoleAdmin)
	p, boss := principalOf(t, h, ada), principalOf(t, h, root)
	try := func(req auth.CreateAPIKeyRequest, want *errs.Error) {
		t.Helper()
		req.Name = "try"
		if resp, err := h.Service().CreateAPIKey(t.Context(), req); !errors.Is(err, want) {
			t.Errorf("got a key of %+v, error %v, want %v", resp.APIKey, err, want)
		}
	}
	for _, permission := range []string{"*", "*:*", "*:read", "user:write", "user:*"} {
		try(auth.CreateAPIKeyRequest{Actor: p, Permissions: []string{"vm:read", permission}}, auth.ErrGrantExceedsOwn)
	}
	try(auth.CreateAPIKeyRequest{Actor: p, Scope: identity.ScopePlatform}, auth.ErrGrantExceedsOwn)
	for _, id := range []uuid.UUID{bob.ID, root.ID, uuid.New()} { // ada may not administer accounts, so there are none for her
		try(auth.CreateAPIKeyRequest{Actor: p, UserID: id}, auth.ErrUserNotFound)
	}
	if got := mustValidateKey(t, h, createKey(t, h, auth.CreateAPIKeyRequest{Actor: boss, UserID: bob.ID}).Secret).Principal; got.UserID != bob.ID || got.Allows("vm:create") {
		t.Errorf("a key made for bob stands for %+v", got)
	}
	// A key makes keys that can do what it can, and no more, although its owner could.
	narrow := mustValidateKey(t, h, createKey(t, h, auth.CreateAPIKeyRequest{Actor: boss, Permissions: []string{"api-key:*", "vm:read", "user:*"}}).Secret).Principal
	createKey(t, h, auth.CreateAPIKeyRequest{Actor: narrow, Permissions: []string{"vm:read"}})
	try(auth.CreateAPIKeyRequest{Actor: narrow, Permissions: []string{"vm:create"}}, auth.ErrGrantExceedsOwn)
	try(auth.CreateAPIKeyRequest{Actor: narrow}, auth.ErrGrantExceedsOwn)
	try(auth.CreateAPIKeyRequest{Actor: narrow, UserID: ada.ID, Permissions: []string{"vm:read"}}, auth.ErrGrantExceedsOwn)
	mute := mustValidateKey(t, h, createKey(t, h, auth.CreateAPIKeyRequest{Actor: p, Permissions: []string{"vm:read"}}).Secret).Principal
	if _, err := h.Service().CreateAPIKey(t.Context(), auth.CreateAPIKeyRequest{Actor: mute, Name: "x", Permissions: []string{"vm:read"}}); errs.From(err).Kind != errs.Forbidden {
		t.Errorf("a key without api-key:write made a key: %v", err)
	}
}

func keySpecChecked(t *testing.T, h Harness) {
	p := principalOf(t, h, h.AddUser(t, "ada", auth.RoleUser))
	past := time.Now().Add(-time.Hour)
	for name, req := range map[string]auth.CreateAPIKeyRequest{
		"no name": {}, "blank name": {Name: " \t"}, "long name": {Name: strings.Repeat("a", 256)},
		"past": {Name: "x", ExpiresAt: &past}, "scope": {Name: "x", Scope: "galaxy"},
	} {
		req.Actor = p
		if resp, err := h.Service().CreateAPIKey(t.Context(), req); !errors.Is(err, auth.ErrInvalidAPIKeySpec) {
			t.Errorf("%s: %+v, %v", name, resp.APIKey, err)
		}
	}
	for _, bad := range []string{"vm", "vm:read:x", "VM:read", "", " "} {
		req := auth.CreateAPIKeyRequest{Actor: p, Name: "x", Permissions: []string{bad}}
		if resp, err := h.Service().CreateAPIKey(t.Context(), req); !errors.Is(err, auth.ErrInvalidPermission) {
			t.Errorf("permission %q: %+v, %v", bad, resp.APIKey, err)
		}
	}
}

func keyActsElsewhere(t *testing.T, h Harness) {
	ada, root := h.AddUser(t, "ada", auth.RoleUser), h.AddUser(t, "root", auth.RoleAdmin)
	other, third := h.AddTenant(t, "other"), h.AddTenant(t, "third")
	p := principalOf(t, h, ada)
	whole := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p}).Secret
	bounded := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p, Permissions: []string{"image:*", "vm:create"}}).Secret
	in := func(key string, tenant uuid.UUID) (identity.Principal, error) {
		resp, err := h.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: key, TenantID: tenant})
		return resp.Principal, err
	}
	for _, key := range []string{whole, bounded} {
		if got, err := in(key, other); !errors.Is(err, auth.ErrNoRole) {
			t.Errorf("without a role there: %+v, %v", got, err)
		}
	}
	h.Bind(t, ada.ID, other, auth.RoleViewer)
	got, err := in(whole, other)
	if err != nil || got.TenantID != other || got.HomeID != ada.TenantID || !got.Allows("vm:read") || got.Allows("vm:create") {
		t.Errorf("with a role there: %+v, %v", got, err)
	}
	if got, err := in(bounded, other); err != nil || got.Allows("vm:read") || got.Allows("vm:create") || !got.Allows("image:read") || got.Allows("image:create") {
		t.Errorf("with a role there and bounds: %+v, %v", got, err)
	}
	if got, err := in(whole, ada.TenantID); err != nil || got.TenantID != ada.TenantID || !got.Allows("vm:create") {
		t.Errorf("at home by name: %+v, %v", got, err)
	}
	// Who reaches every tenant does so with a key that may, and stays at home with one that may not.
	boss := principalOf(t, h, root)
	far, near := createKey(t, h, auth.CreateAPIKeyRequest{Actor: boss}).Secret, createKey(t, h, auth.CreateAPIKeyRequest{Actor: boss, Scope: identity.ScopeTenant}).Secret
	if got, err := in(far, third); err != nil || got.TenantID != third || !got.Allows("vm:create") {
		t.Errorf("a key for every tenant: %+v, %v", got, err)
	}
	if got, err := in(near, third); !errors.Is(err, auth.ErrNoRole) {
		t.Errorf("a key for one tenant: %+v, %v", got, err)
	}
	h.Bind(t, root.ID, third, auth.RoleViewer)
	if got, err := in(near, third); err != nil || !got.Allows("vm:read") || got.Allows("vm:create") || got.AllowsPlatform("vm:read") {
		t.Errorf("a key for one tenant, with a role in another: %+v, %v", got, err)
	}
}

func keySurvivesEncoding(t *testing.T, h Harness) {
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	p := principalOf(t, h, h.AddUser(t, "ada", auth.RoleUser))
	made := createKey(t, h, auth.CreateAPIKeyRequest{Actor: p, Permissions: []string{"vm:read"}, ExpiresAt: &ends})
	survives(t, made)
	survives(t, mustValidateKey(t, h, made.Secret))
	survives(t, auth.CreateAPIKeyRequest{Actor: p, Name: "x", ExpiresAt: &ends})
	survives(t, auth.ValidateAPIKeyRequest{Key: "x", Client: netip.MustParseAddr("2001:db8::1")})
}

func survives[T any](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, back, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("after a journey: %s", diff)
	}
}
