package bus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/bus"
)

func TestValid(t *testing.T) {
	for _, c := range []struct {
		subject            string
		publish, subscribe bool
	}{
		{"a", true, true}, {"vm.events", true, true}, {"_INBOX.x.1", true, true}, {"größe.ü", true, true}, {"$SYS.a-b_c", true, true},
		{"*", false, true}, {">", false, true}, {"a.*", false, true}, {"a.*.b", false, true}, {"*.*", false, true}, {"a.>", false, true}, {"*.>", false, true},
		{"", false, false}, {".", false, false}, {"a.", false, false}, {".a", false, false}, {"a..b", false, false},
		{"a b", false, false}, {"a\tb", false, false}, {"a\n", false, false}, {"a\x00", false, false}, {"a\x7f", false, false},
		{">.a", false, false}, {"a.>.b", false, false}, {"a*", false, false}, {"*a", false, false}, {"**", false, false}, {"a>", false, false},
		{">>", false, false}, {">*", false, false}, {"*>", false, false}, {"a.*b.c", false, false}, {">.", false, false}, {"*.", false, false},
		{strings.Repeat("a", 1024), true, true}, {strings.Repeat("a", 1025), false, false},
	} {
		check := func(what string, err error, want bool) {
			if (err == nil) != want || err != nil && !errors.Is(err, bus.ErrInvalidSubject) {
				t.Errorf("%s(%q): %v", what, c.subject, err)
			}
		}
		check("ValidSubject", bus.ValidSubject(c.subject), c.publish)
		check("ValidPattern", bus.ValidPattern(c.subject), c.subscribe)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.b", "a", false}, {"a", "A", false}, {"a", "aa", false},
		{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false}, {"*.b", "a.b", true},
		{"a.*.c", "a.b.c", true}, {"a.*.c", "a.b.d", false}, {"*.*", "a.b", true}, {"*.*", "a", false},
		{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {"a.>", "b.c", false},
		{"*.>", "a", false}, {"*.>", "a.b", true}, {"a.*.>", "a.b", false}, {"a.*.>", "a.b.c.d", true},
		{"vm.node.*.report", "vm.node.1.report", true}, {"vm.node.*.report", "vm.node.1.cmd", false},
	} {
		if got := bus.Match(c.pattern, c.subject); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.subject, got)
		}
	}
}

// validByTokens and matchByTokens say the same as the package in the plainest words.
func validByTokens(subject string, wildcards bool) bool {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		wild := token == "*" || token == ">" && i == len(tokens)-1
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }) ||
			strings.ContainsAny(token, "*>") && !(wild && wildcards) {
			return false
		}
	}
	return len(subject) <= 1024
}

func matchByTokens(pattern, subject []string) bool {
	switch {
	case len(pattern) == 0 || len(subject) == 0:
		return len(pattern) == len(subject)
	case pattern[0] == ">":
		return true
	}
	return (pattern[0] == "*" || pattern[0] == subject[0]) && matchByTokens(pattern[1:], subject[1:])
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", ".", "a", "a.b.c", "*", ">", "a.*.c", "a.>", ">.a", "a*", "a b", "a..b", "\x00", "\xff.\xfe", "ü.*"} {
		for _, p := range []string{"a.b.c", "*.*", ">", s} {
			f.Add(p, s)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		matched := bus.Match(pattern, subject) // does not panic, whatever it is given
		for _, s := range []string{pattern, subject} {
			asSubject, asPattern := bus.ValidSubject(s) == nil, bus.ValidPattern(s) == nil
			if asSubject != validByTokens(s, false) || asPattern != validByTokens(s, true) {
				t.Errorf("%q: valid subject %v, valid pattern %v", s, asSubject, asPattern)
			}
			if asSubject && (!asPattern || !bus.Match(s, s) || !bus.Match(">", s)) {
				t.Errorf("%q is a subject, but nothing finds it", s)
			}
		}
		if bus.ValidPattern(pattern) != nil || bus.ValidSubject(subject) != nil {
			return
		}
		if want := matchByTokens(strings.Split(pattern, "."), strings.Split(subject, ".")); matched != want {
			t.Errorf("Match(%q, %q) = %v", pattern, subject, matched)
		}
		// Whatever token becomes a wildcard, the pattern still covers its subject.
		tokens := strings.Split(subject, ".")
		for i := range tokens {
			wild := slices.Clone(tokens)
			wild[i] = "*"
			if p := strings.Join(wild, "."); !bus.Match(p, subject) {
				t.Errorf("%q does not cover %q", p, subject)
			}
			if p := strings.Join(append(wild[:i:i], ">"), "."); !bus.Match(p, subject) {
				t.Errorf("%q does not cover %q", p, subject)
			}
		}
	})
}
