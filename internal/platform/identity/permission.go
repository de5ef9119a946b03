package identity

import (
	"slices"
	"strings"
)

// A permission is "<resource>:<verb>", either part of which may be "*" where it is held, or "*" alone: everything. The qualifier ":own"
// behind a held one narrows it to what its holder owns: "vm:delete:own". What is held in full covers what is held of one's own things.

// everything is the permission that covers all others.
const everything = "*"

// own is the qualifier that narrows a permission to what its holder owns.
const own = "own"

// maxPermission is as long as a permission can be kept.
const maxPermission = 100

// split takes a permission apart; ok is false for what is none.
func split(permission string) (resource, verb, qualifier string, ok bool) {
	colon := strings.IndexByte(permission, ':')
	if colon < 0 {
		return "", "", "", false
	}
	resource, verb = permission[:colon], permission[colon+1:]
	if colon = strings.IndexByte(verb, ':'); colon >= 0 {
		verb, qualifier = verb[:colon], verb[colon+1:]
		if qualifier != own {
			return "", "", "", false
		}
	}
	return resource, verb, qualifier, true
}

// Matches tells whether a held permission, which may have wildcards, covers a wanted one. A wildcard that is wanted is covered by the same or
// a wider wildcard only.
func Matches(held, wanted string) bool {
	if held == everything || held == wanted {
		return true
	}
	wr, wv, wq, ok := split(wanted)
	return ok && matches(held, wr, wv, wq)
}

func matches(held, resource, verb, qualifier string) bool {
	if resource != "" && held != "" && held[0] != resource[0] && held[0] != '*' {
		return false // most are done with here
	}
	hr, hv, hq, ok := split(held)
	return ok && (hr == resource || hr == everything) && (hv == verb || hv == everything) && (hq == "" || hq == qualifier)
}

// Covers tells whether one of the held permissions covers the wanted one.
func Covers(held []string, wanted string) bool {
	wr, wv, wq, ok := split(wanted)
	for _, h := range held {
		if h == everything || h == wanted || ok && matches(h, wr, wv, wq) {
			return true
		}
	}
	return false
}

// coversOwn tells whether one of the held permissions covers the wanted one at least on what its holder owns.
func coversOwn(held []string, wanted string) bool {
	wr, wv, _, ok := split(wanted)
	for _, h := range held {
		if h == everything || h == wanted || ok && matches(h, wr, wv, own) {
			return true
		}
	}
	return false
}

// Uncovered gives the first of the wanted permissions that none of the held ones covers, and "" where all are covered.
func Uncovered(held, wanted []string) string {
	if slices.Contains(held, everything) {
		return ""
	}
	for _, w := range wanted {
		if !Covers(held, w) {
			return w
		}
	}
	return ""
}

// ValidPermission tells whether text can be granted: "*", or "<resource>:<verb>" with parts of a-z, 0-9 and '-' or "*", and perhaps ":own".
func ValidPermission(text string) bool {
	if text == everything {
		return true
	}
	resource, verb, _, ok := split(text)
	return ok && len(text) <= maxPermission && validPart(resource) && validPart(verb) && verb != own
}

func validPart(part string) bool {
	if part == everything {
		return true
	}
	for i := range len(part) {
		c := part[i]
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return part != ""
}
