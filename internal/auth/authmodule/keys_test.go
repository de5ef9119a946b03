package authmodule_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/httpx"
)

type signingKey struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

func (p *process) rotate(token string, atOnce bool) []signingKey {
	p.t.Helper()
	var page httpx.Page[signingKey]
	p.do(call{method: "POST", path: "/api/v1/signing-keys/rotate", token: token, body: object{"at_once": atOnce}}).want(200).into(&page)
	return page.Items
}

func (p *process) published() int {
	p.t.Helper()
	var set struct{ Keys []json.RawMessage }
	p.do(call{method: "GET", path: "/.well-known/jwks.json"}).want(200).into(&set)
	return len(set.Keys)
}

// An administrator rotates the keys; nobody is logged out, in this process or in another.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	here, there := s.start(t), s.start(t)
	tk := here.admin()
	keys := here.rotate(tk.Access, false)
	if len(keys) != 2 || keys[0].State != "next" || keys[1].State != "signing" || here.published() != 2 {
		t.Errorf("keys %+v, published %d", keys, here.published())
	}
	if again := here.rotate(tk.Access, false); len(again) != 2 || again[0] != keys[0] {
		t.Errorf("asked again: %+v", again)
	}
	within(t, patience, "the other process publishes the key, too", func() bool { return there.published() == 2 })
	for _, p := range []*process{here, there} {
		p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	}
	red := here.addTenant(tk.Access, "red")
	here.addUser(tk.Access, "op", "operator", &red)
	op := here.login("op", goodPassword)
	here.do(call{method: "POST", path: "/api/v1/signing-keys/rotate", token: op.Access, body: object{}}).want(403, httpx.ErrForbidden)
	here.do(call{method: "GET", path: "/api/v1/signing-keys", token: op.Access}).want(403, httpx.ErrForbidden)
}

// A key that others may know is withdrawn: tokens of it are refused everywhere within moments, and a refresh gives a good one.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	for name, arrange := range map[string]func(*site){
		"bus and cache": func(*site) {},
		"cache only":    func(s *site) { s.bus = deafBus{s.bus} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			arrange(s)
			here, there := s.start(t), s.start(t)
			tk, stolen := here.admin(), here.admin()
			there.do(call{method: "GET", path: "/api/v1/me", token: stolen.Access}).want(200)
			if keys := here.rotate(tk.Access, true); len(keys) != 1 || keys[0].State != "signing" {
				t.Errorf("keys %+v", keys)
			}
			here.do(call{method: "GET", path: "/api/v1/me", token: stolen.Access}).want(401, auth.ErrInvalidToken)
			within(t, patience, "the other process refuses the token", func() bool {
				_, err := there.module.Service().ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: stolen.Access})
				return errors.Is(err, auth.ErrInvalidToken)
			})
			fresh := tk
			here.refresh(tk.Refresh).want(200).into(&fresh)
			for _, p := range []*process{here, there} {
				within(t, patience, "the new token is good", func() bool {
					return p.do(call{method: "GET", path: "/api/v1/me", token: fresh.Access}).status == 200
				})
			}
		})
	}
}
