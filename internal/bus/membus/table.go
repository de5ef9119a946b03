package membus

import (
	"slices"
	"strings"
)

// table finds the subscriptions that match a subject: those without wildcards by one look-up, the others by a walk through a trie of
// tokens, so that the cost depends on the subject's length and on what matches, not on how many subscriptions there are. It is not safe
// for concurrent use.
type table struct {
	exact map[string][]*subscription // by pattern
	wild  *node
}

// node is a place in the trie, reached by the tokens of a pattern.
type node struct {
	token map[string]*node
	any   *node           // the token "*"
	rest  []*subscription // patterns that go on with ">" from here
	here  []*subscription // patterns that end here
}

func newTable() table { return table{exact: map[string][]*subscription{}, wild: new(node)} }

func (t *table) add(s *subscription) {
	if !strings.ContainsAny(s.pattern, "*>") {
		t.exact[s.pattern] = append(t.exact[s.pattern], s)
		return
	}
	t.wild.add(s.pattern, s)
}

func (t *table) remove(s *subscription) {
	if strings.ContainsAny(s.pattern, "*>") {
		t.wild.remove(s.pattern, s)
	} else if left := without(t.exact[s.pattern], s); len(left) > 0 {
		t.exact[s.pattern] = left
	} else {
		delete(t.exact, s.pattern)
	}
}

// match calls visit with groups of subscriptions that together are all that match.
func (t *table) match(subject string, visit func([]*subscription)) {
	if subs := t.exact[subject]; len(subs) > 0 {
		visit(subs)
	}
	t.wild.match(subject, visit)
}

func (t *table) each(visit func(*subscription)) {
	for _, subs := range t.exact {
		for _, s := range subs {
			visit(s)
		}
	}
	t.wild.each(visit)
}

func (n *node) add(pattern string, s *subscription) {
	token, tail, more := strings.Cut(pattern, ".")
	if token == ">" {
		n.rest = append(n.rest, s)
		return
	}
	child := n.any
	if token != "*" {
		child = n.token[token]
	}
	if child == nil {
		child = new(node)
		switch {
		case token == "*":
			n.any = child
		case n.token == nil:
			n.token = map[string]*node{token: child}
		default:
			n.token[token] = child
		}
	}
	if more {
		child.add(tail, s)
	} else {
		child.here = append(child.here, s)
	}
}

// remove forgets a subscription and the nodes that nothing else needs.
func (n *node) remove(pattern string, s *subscription) {
	token, tail, more := strings.Cut(pattern, ".")
	if token == ">" {
		n.rest = without(n.rest, s)
		return
	}
	child := n.any
	if token != "*" {
		child = n.token[token]
	}
	if child == nil { // it was removed before
		return
	}
	if more {
		child.remove(tail, s)
	} else {
		child.here = without(child.here, s)
	}
	if child.empty() {
		if token == "*" {
			n.any = nil
		} else {
			delete(n.token, token)
		}
	}
}

func (n *node) empty() bool {
	return len(n.token) == 0 && n.any == nil && len(n.rest) == 0 && len(n.here) == 0
}

func (n *node) match(subject string, visit func([]*subscription)) {
	if len(n.rest) > 0 {
		visit(n.rest)
	}
	token, tail, more := strings.Cut(subject, ".")
	for _, child := range [...]*node{n.token[token], n.any} {
		switch {
		case child == nil:
		case more:
			child.match(tail, visit)
		case len(child.here) > 0:
			visit(child.here)
		}
	}
}

func (n *node) each(visit func(*subscription)) {
	for _, subs := range [...][]*subscription{n.rest, n.here} {
		for _, s := range subs {
			visit(s)
		}
	}
	for _, child := range n.token {
		child.each(visit)
	}
	if n.any != nil {
		n.any.each(visit)
	}
}

func without(subs []*subscription, s *subscription) []*subscription {
	if i := slices.Index(subs, s); i >= 0 {
		return slices.Delete(subs, i, i+1)
	}
	return subs
}
