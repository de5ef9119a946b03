package identity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		held, wanted string
		want         bool
	}{
		{"*", "vm:read", true}, {"*", "vm:read:own", true}, {"*", "vm:*", true}, {"*", "*", true}, {"*", "public", true},
		{"vm:read", "vm:read", true}, {"vm:read", "vm:write", false}, {"vm:read", "image:read", false}, {"vm:read", "vm:read:own", true},
		{"vm:*", "vm:read", true}, {"vm:*", "vm:*", true}, {"vm:*", "vm:*:own", true}, {"vm:*", "vms:read", false}, {"vm:*", "v:read", false},
		{"*:read", "vm:read", true}, {"*:read", "vm:write", false}, {"*:read", "*:read", true}, {"*:*", "vm:read", true}, {"*:*", "*", false},
		{"vm:read", "vm:*", false}, {"vm:read", "*:read", false}, {"vm:read", "*", false},
		{"vm:read:own", "vm:read", false}, {"vm:read:own", "vm:read:own", true}, {"vm:*:own", "vm:read:own", true}, {"vm:*:own", "vm:read", false},
		{"vm:*:own", "vm:*:own", true}, {"*:*:own", "vm:read:own", true}, {"*:*:own", "vm:read", false}, {"vm:read:own", "vm:write:own", false},
		{"", "vm:read", false}, {"vm", "vm:read", false}, {"vm:", "vm:read", false}, {":", "vm:read", false}, {":read", "vm:read", false},
		{"vm:read:all", "vm:read", false}, {"vm:*:all", "vm:read", false}, {"vm:*:", "vm:read", false}, {"vm:*:own:own", "vm:read:own", false},
		{"vm:*", "vm:read:all", false}, {"vm:*", "vm", false}, {"vm:**", "vm:read", false}, {"vm:r*", "vm:read", false}, {"**", "vm:read", false},
	} {
		if got := identity.Matches(c.held, c.wanted); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.held, c.wanted, got, c.want)
		}
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	me, other, mine, theirs := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	p := identity.Principal{UserID: me, TenantID: mine, Scope: identity.ScopeTenant, Permissions: []string{"audit:read", "image:read", "vm:*:own"},
		Platform: []string{"audit:read"}}
	for _, c := range []struct {
		permission    string
		tenant, owner uuid.UUID
		want          bool
	}{
		{"image:read", mine, other, true}, {"image:read", theirs, me, false}, {"vm:read", mine, me, true}, {"vm:read", mine, other, false},
		{"vm:read", theirs, me, false}, {"audit:read", mine, other, true}, {"audit:read", theirs, other, true}, {"user:read", mine, me, false},
	} {
		if got := p.AllowsOn(c.permission, c.tenant, c.owner); got != c.want {
			t.Errorf("%s on what %v owns: %v", c.permission, c.owner == me, got)
		}
	}
	if p.Allows("vm:read") || !p.AllowsOwn("vm:read") || !p.AllowsOwn("image:read") || p.AllowsOwn("user:read") {
		t.Error("what one owns and what one may do to all are mixed up")
	}
	if owner := p.OwnerFilter("vm:read"); owner == nil || *owner != me || p.OwnerFilter("image:read") != nil {
		t.Error("lists show too much or too little")
	}
	if !p.Allows(identity.Public) || !p.Allows(identity.Authenticated) || p.AllowsPlatform("image:read") {
		t.Error("marks and the platform are mixed up")
	}
	admin := identity.Principal{Scope: identity.ScopePlatform, Permissions: []string{"*"}}
	if !admin.AllowsPlatform("vm:read") || !admin.AllowsOn("vm:delete", theirs, other) {
		t.Error("a role that reaches every tenant does not")
	}
}

func TestValidPermission(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"*": true, "vm:read": true, "vm:*": true, "*:read": true, "*:*": true, "vm:read:own": true, "*:*:own": true, "security-group:read": true, "v2:r2": true,
		"": false, "vm": false, ":": false, "vm:": false, ":read": false, "vm:read:": false, "vm:read:all": false, "vm:own": false, "VM:read": false,
		"vm:re ad": false, "vm:read\n": false, "2vm:read": false, "-vm:read": false, "vm:**": false, "vm:r*": false, "vm:read:own:own": false, "vm:rèad": false,
		"vm:" + strings.Repeat("a", 97): true, "vm:" + strings.Repeat("a", 98): false, "public": false,
	} {
		if got := identity.ValidPermission(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// reference says slowly and plainly what Matches says fast.
func reference(held, wanted string) bool {
	if held == "*" || held == wanted {
		return true
	}
	h, w := strings.Split(held, ":"), strings.Split(wanted, ":")
	for _, parts := range [][]string{h, w} {
		if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "own" {
			return false
		}
	}
	for i := range 2 {
		if h[i] != "*" && h[i] != w[i] {
			return false
		}
	}
	return len(h) == 2 || len(w) == 3
}

func FuzzMatches(f *testing.F) {
	for _, seed := range []string{"*", "vm:read", "vm:*", "*:read", "vm:read:own", "vm:*:own", "", ":", "::", "vm:read:own:own", "vm\x00:read", "a:b:c"} {
		f.Add(seed, "vm:read")
		f.Add("vm:*", seed)
	}
	f.Fuzz(func(t *testing.T, held, wanted string) {
		if got, want := identity.Matches(held, wanted), reference(held, wanted); got != want {
			t.Errorf("%q covers %q: %v, want %v", held, wanted, got, want)
		}
		if got := identity.Covers([]string{"other:thing", held}, wanted); got != (identity.Matches(held, wanted) || identity.Matches("other:thing", wanted)) {
			t.Errorf("a list with %q covers %q: %v", held, wanted, got)
		}
		p := identity.Principal{Permissions: []string{held}}
		if p.Allows(wanted) && !p.AllowsOwn(wanted) {
			t.Errorf("who holds %q may do %q to all, but not to their own", held, wanted)
		}
		if p.AllowsPlatform(wanted) {
			t.Errorf("%q reaches every tenant", held)
		}
		if identity.ValidPermission(held) && !strings.Contains(held, "*") && identity.ValidPermission(wanted) && identity.Matches(held, wanted) &&
			strings.TrimSuffix(wanted, ":own") != strings.TrimSuffix(held, ":own") {
			t.Errorf("%q, which has no wildcard, covers %q", held, wanted)
		}
	})
}

// typical is what the built-in role operator holds.
func typical() identity.Principal {
	return identity.Principal{Permissions: strings.Fields(`affinity-group:* alert:* backup:* event:read flavor:read image:* monitoring:* multicloud:read
		network:* operation:* quota:read role:read security-group:* snapshot:* ssh-key:* template:* tenant:read user:read vm:* volume:* webhook:*`)}
}

// BenchmarkAllows is a permission check against a role of 21 permissions: one that is held, and one that is not, for which all are looked at.
func BenchmarkAllows(b *testing.B) {
	p := typical()
	b.Run("held", func(b *testing.B) {
		for b.Loop() {
			if !p.Allows("vm:read") {
				b.Fatal("refused")
			}
		}
	})
	b.Run("missing", func(b *testing.B) {
		for b.Loop() {
			if p.Allows("user:write") {
				b.Fatal("allowed")
			}
		}
	})
}

// A check takes less than a microsecond; machines of tests are shared, so only ten times that counts as broken here.
func TestChecksAreCheap(t *testing.T) {
	p := typical()
	best := time.Hour
	for range 5 {
		const n = 10_000
		begun := time.Now()
		for range n {
			if p.Allows("user:write") {
				t.Fatal("allowed")
			}
		}
		best = min(best, time.Since(begun)/n)
	}
	t.Logf("a refused check takes %s", best)
	if best > 10*time.Microsecond {
		t.Errorf("a refused check takes %s", best)
	}
}
