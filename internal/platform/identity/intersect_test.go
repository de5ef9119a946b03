package identity_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

func TestIntersect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want []string }{
		{[]string{"*"}, []string{"vm:read", "image:*"}, []string{"image:*", "vm:read"}},
		{[]string{"vm:*"}, []string{"*:read"}, []string{"vm:read"}},
		{[]string{"vm:read"}, []string{"vm:create"}, []string{}},
		{[]string{"vm:*", "image:read"}, []string{"vm:read", "vm:*", "image:*"}, []string{"image:read", "vm:*"}},
		{[]string{"*"}, []string{"*"}, []string{"*"}},
		{[]string{"*", "*:*"}, []string{"*", "*:*"}, []string{"*"}},
		{nil, []string{"*"}, []string{}},
		{[]string{"vm:*"}, []string{"*:read:own"}, []string{"vm:read:own"}},
		{[]string{"vm:read:own"}, []string{"vm:read", "vm:read:own"}, []string{"vm:read:own"}},
		{[]string{"vm:*:own", "vm:read"}, []string{"*"}, []string{"vm:*:own", "vm:read"}},
		{[]string{"junk"}, []string{"vm:*"}, []string{}},
		{[]string{"junk"}, []string{"other"}, []string{}},
	} {
		if got := identity.Intersect(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("Intersect(%q, %q) = %q, want %q", c.a, c.b, got, c.want)
		}
		if got := identity.Intersect(c.b, c.a); !slices.Equal(got, c.want) {
			t.Errorf("Intersect(%q, %q) = %q, want %q", c.b, c.a, got, c.want)
		}
	}
}

// What the intersection allows is exactly what both lists allow.
func TestIntersectAllowsWhatBothAllow(t *testing.T) {
	t.Parallel()
	parts := []string{"a", "b", "c", "*"}
	var all []string
	for _, r := range parts {
		for _, v := range parts {
			all = append(all, r+":"+v, r+":"+v+":own")
		}
	}
	all = append(all, "*", "a", "")
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() []string {
		var list []string
		for range random.IntN(5) {
			list = append(list, all[random.IntN(len(all))])
		}
		return list
	}
	allows := func(held []string, wanted string) bool { return identity.Principal{Permissions: held}.Allows(wanted) }
	allowsOwn := func(held []string, wanted string) bool {
		return identity.Principal{Permissions: held}.AllowsOwn(wanted)
	}
	for range 5000 {
		a, b := draw(), draw()
		both := identity.Intersect(a, b)
		for _, r := range parts[:3] {
			for _, v := range parts[:3] {
				wanted := r + ":" + v
				if allows(both, wanted) != (allows(a, wanted) && allows(b, wanted)) {
					t.Fatalf("Intersect(%q, %q) = %q is wrong about %s", a, b, both, wanted)
				}
				if allowsOwn(both, wanted) != (allowsOwn(a, wanted) && allowsOwn(b, wanted)) {
					t.Fatalf("Intersect(%q, %q) = %q is wrong about %s of one's own", a, b, both, wanted)
				}
			}
		}
	}
}

// A key reaches no farther than its bound, wherever what its owner holds comes from.
func TestWithKey(t *testing.T) {
	t.Parallel()
	key := uuid.New()
	owner := identity.Principal{UserID: uuid.New(), SessionID: uuid.New(), Permissions: []string{"audit:read", "vm:*"}, Platform: []string{"audit:read"}, Scope: identity.ScopeTenant}
	for _, c := range []struct {
		owner                      identity.Principal
		bound                      []string
		scope                      identity.Scope
		allowed, platform, refused string
	}{
		{owner, nil, identity.ScopePlatform, "vm:create", "audit:read", "image:read"},
		{owner, nil, identity.ScopeTenant, "vm:create", "", "image:read"},
		{owner, []string{"*:read"}, identity.ScopePlatform, "vm:read", "audit:read", "vm:create"},
		{owner, []string{"vm:read"}, identity.ScopePlatform, "vm:read", "", "audit:read"},
		{owner, []string{}, identity.ScopePlatform, "", "", "vm:read"},
		{identity.Principal{Permissions: []string{"*"}, Scope: identity.ScopePlatform}, []string{"vm:read"}, identity.ScopePlatform, "vm:read", "vm:read", "vm:create"},
		{identity.Principal{Permissions: []string{"*"}, Scope: identity.ScopePlatform}, nil, identity.ScopeTenant, "vm:read", "", ""},
	} {
		p := c.owner.WithKey(key, identity.KeyBound{Scope: c.scope, Bounded: c.bound != nil, Permissions: c.bound, Platform: c.bound})
		if p.APIKeyID != key || p.SessionID != uuid.Nil || p.UserID != c.owner.UserID {
			t.Errorf("a key acts as %+v", p)
		}
		if c.allowed != "" && !p.Allows(c.allowed) || c.refused != "" && p.Allows(c.refused) {
			t.Errorf("%q, %s: %+v", c.bound, c.scope, p)
		}
		for _, permission := range []string{"audit:read", "vm:read", "vm:create"} {
			if p.AllowsPlatform(permission) && (c.platform == "" || c.bound != nil && permission != c.platform) {
				t.Errorf("%q, %s: %s reaches every tenant", c.bound, c.scope, permission)
			}
		}
		if c.platform != "" && !p.AllowsPlatform(c.platform) {
			t.Errorf("%q, %s: %s does not reach every tenant", c.bound, c.scope, c.platform)
		}
	}
}
