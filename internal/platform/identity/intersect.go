package identity

import (
	"slices"
	"strings"
)

// Intersect gives what both lists of permissions allow, sorted and without repetition. Wildcards meet: "vm:*" and "*:read" have "vm:read"
// in common.
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
	case x == y, y == "*":
		return x, true
	case x == "*":
		return y, true
	}
	xr, xv, okx := strings.Cut(x, ":")
	yr, yv, oky := strings.Cut(y, ":")
	resource, sameResource := meetPart(xr, yr)
	verb, sameVerb := meetPart(xv, yv)
	return resource + ":" + verb, okx && oky && sameResource && sameVerb
}

func meetPart(x, y string) (string, bool) {
	if y == "*" {
		return x, true
	}
	return y, x == "*" || x == y
}
