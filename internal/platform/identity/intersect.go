package identity

import (
	"slices"

	"github.com/google/uuid"
)

// KeyBound is what an API key may do at most, whoever owns it. Without a bound, that is what they may.
type KeyBound struct {
	Scope       Scope    // tenant: nothing reaches beyond the tenant that is acted in
	Bounded     bool     // the lists count
	Permissions []string // in the tenant that is acted in
	Platform    []string // in every tenant
}

// WithKey gives the principal as whom an API key of theirs acts: what both they and the key may do, as far as both reach.
func (p Principal) WithKey(key uuid.UUID, bound KeyBound) Principal {
	p.APIKeyID, p.SessionID = key, uuid.Nil
	everywhere := p.Platform
	if p.Scope == ScopePlatform {
		everywhere = p.Permissions
	}
	p.Permissions = slices.Clone(p.Permissions)
	if bound.Bounded {
		p.Permissions, everywhere = Intersect(p.Permissions, bound.Permissions), Intersect(everywhere, bound.Platform)
	}
	if bound.Scope != ScopePlatform {
		everywhere = nil
	}
	p.Platform, p.Scope = slices.Clone(everywhere), ScopeTenant
	if len(p.Permissions) > 0 && Uncovered(everywhere, p.Permissions) == "" {
		p.Scope = ScopePlatform
	}
	if len(p.Platform) == 0 {
		p.Platform = nil
	}
	return p
}

// Intersect gives what both lists of permissions allow, sorted and without repetition. Wildcards meet: "vm:*" and "*:read" have "vm:read"
// in common, and with "vm:read:own" only that.
func Intersect(a, b []string) []string {
	common := []string{}
	for _, x := range a {
		for _, y := range b {
			if both, some := meet(x, y); some {
				common = append(common, both)
			}
		}
	}
	slices.Sort(common)
	common = slices.Compact(common)
	// What another entry covers says nothing. Only a different entry can: equal ones are gone.
	return slices.DeleteFunc(slices.Clone(common), func(p string) bool {
		return slices.ContainsFunc(common, func(other string) bool { return other != p && Matches(other, p) && !Matches(p, other) })
	})
}

// meet gives the permission that covers exactly what both cover; false where that is nothing.
func meet(x, y string) (string, bool) {
	switch {
	case x == y, y == everything:
		return x, true
	case x == everything:
		return y, true
	}
	xr, xv, xq, okx := split(x)
	yr, yv, yq, oky := split(y)
	resource, sameResource := meetPart(xr, yr)
	verb, sameVerb := meetPart(xv, yv)
	if xq == own || yq == own {
		verb += ":" + own
	}
	return resource + ":" + verb, okx && oky && sameResource && sameVerb
}

func meetPart(x, y string) (string, bool) {
	if y == everything {
		return x, true
	}
	return y, x == everything || x == y
}
