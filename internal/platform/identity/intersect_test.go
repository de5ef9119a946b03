package identity_test

import (
	"math/rand/v2"
	"slices"
	"testing"

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
			all = append(all, r+":"+v)
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
	for range 5000 {
		a, b := draw(), draw()
		both := identity.Intersect(a, b)
		for _, r := range parts[:3] {
			for _, v := range parts[:3] {
				if wanted := r + ":" + v; allows(both, wanted) != (allows(a, wanted) && allows(b, wanted)) {
					t.Fatalf("Intersect(%q, %q) = %q is wrong about %s", a, b, both, wanted)
				}
			}
		}
	}
}
