package authmodule_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/httpx"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	a := p.do(call{method: "POST", path: "/auth/login", body: object{"username": "ADMIN", "password": p.initialPassword()}}).want(200)
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	var tk tokens
	a.into(&tk)
	if tk.Type != "Bearer" || tk.Expires != 900 || tk.Refresh == "" {
		t.Errorf("tokens %+v", tk)
	}
	var me struct {
		auth.User
		Tenant      auth.Tenant `json:"tenant"`
		Scope       string      `json:"scope"`
		Permissions []string    `json:"permissions"`
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200).into(&me)
	if me.Username != "admin" || me.Role != "admin" || me.Tenant.Name != "default" || me.Scope != "platform" || len(me.Permissions) != 1 {
		t.Errorf("me: %+v", me)
	}
	if me.LastLoginAt == nil {
		t.Error("the login was not noted")
	}
	p.do(call{method: "GET", path: "/api/v1/me/permissions", token: tk.Access}).want(200)
	p.do(call{method: "GET", path: "/api/v1/me"}).want(401, httpx.ErrUnauthenticated)
}

// The published keys verify our tokens with another library.
func TestJWKS(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	var set struct {
		Keys []struct{ Kid, Alg, Kty, Use, N, E string }
	}
	p.do(call{method: "GET", path: "/.well-known/jwks.json"}).want(200).into(&set)
	if len(set.Keys) != 1 || set.Keys[0].Alg != "RS256" || set.Keys[0].Use != "sig" || set.Keys[0].Kty != "RSA" {
		t.Fatalf("keys %+v", set)
	}
	tok, _, err := jwt.NewParser().ParseUnverified(p.admin().Access, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	if tok.Header["kid"] != set.Keys[0].Kid {
		t.Errorf("the token names %v, published is %s", tok.Header["kid"], set.Keys[0].Kid)
	}
}

// Who does not get in learns nothing of why, and hostile names are names like any other.
func TestBadLogins(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	u := p.addUser(adm, "ada", "user", nil)
	p.do(call{method: "PATCH", path: "/api/v1/users/" + u.ID.String(), token: adm, body: object{"disabled": true}}).want(200)
	var first []byte
	for i, c := range []object{
		{"username": "admin", "password": "wrong"}, {"username": "nobody", "password": "wrong"}, {"username": "ada", "password": goodPassword},
		{"username": "admin' OR '1'='1", "password": "x"}, {"username": `"; DROP TABLE users; --`, "password": "x"},
		{"username": "admin\r\nX-Admin: 1", "password": "x"}, {"username": "ａｄｍｉｎ", "password": "x"}, {"username": "admin%00", "password": "x"},
		{"username": "\u202enimda", "password": "x"}, {"username": strings.Repeat("💥", 200), "password": strings.Repeat("💥", 1000)},
		{"username": "%s%n%d{{.}}${jndi:ldap://x}", "password": "x"}, {"username": "../../etc/passwd", "password": "x"},
	} {
		hashes := p.hashes()
		a := p.do(call{method: "POST", path: "/auth/login", body: c, from: "198.51.100." + strconv.Itoa(i+1)}).want(401, auth.ErrInvalidCredentials)
		if got := p.hashes() - hashes; got != 1 {
			t.Errorf("%v: %d passwords were hashed, so the time tells something", c, got)
		}
		if first == nil {
			first = a.body
		}
		if string(a.body) != string(first) {
			t.Errorf("%v: %s differs from %s", c, a.body, first)
		}
	}
	// Not of the right form at all.
	for _, body := range []any{
		object{"username": "admin"}, object{"username": "", "password": "x"}, object{"username": "a", "password": "x", "role": "admin"},
		object{"username": 1, "password": "x"}, object{"username": "a\x00b", "password": "x"}, object{"username": strings.Repeat("a", 256), "password": "x"},
		object{"username": []string{"admin"}, "password": object{"$ne": ""}}, `"admin"`, `[]`, `null`,
	} {
		p.do(call{method: "POST", path: "/auth/login", body: body}).want(422)
	}
	p.do(call{method: "POST", path: "/auth/login", body: `{"username":`}).want(400)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "a", "password": strings.Repeat("x", 1<<20)}}).want(413)
	p.admin()
}

// hashes tells how many passwords the process has hashed.
func (p *process) hashes() uint64 {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "novacron_auth_password_hash_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	p.t.Fatal("hashing is not measured")
	return 0
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	good := p.admin().Access
	parts := strings.Split(good, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var body jwt.MapClaims
	if err := json.Unmarshal(claims, &body); err != nil {
		t.Fatal(err)
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, body).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"alg none": none, "garbled": good[:len(good)-10] + "AAAAAAAAAA", "cut": good[:len(good)/2], "long": good + strings.Repeat("A", 9000),
		"a refresh token": p.admin().Refresh,
	} {
		a := p.do(call{method: "GET", path: "/api/v1/me", token: token})
		if a.status != 401 || !strings.Contains(string(a.body), "auth.invalid_token") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	p.site.clock.forward(16 * time.Minute)
	p.do(call{method: "GET", path: "/api/v1/me", token: good}).want(401, auth.ErrTokenExpired)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	tk, other := p.admin(), p.admin()
	p.do(call{method: "POST", path: "/auth/logout"}).want(401)
	p.do(call{method: "POST", path: "/auth/logout", token: tk.Access}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "POST", path: "/auth/refresh", body: object{"refresh_token": tk.Refresh}}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "GET", path: "/api/v1/me", token: other.Access}).want(200)
}

func (p *process) refresh(token string) answer {
	p.t.Helper()
	return p.do(call{method: "POST", path: "/auth/refresh", body: object{"refresh_token": token}})
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	first := p.admin()
	var second, third tokens
	p.refresh(first.Refresh).want(200).into(&second)
	if second.Refresh == first.Refresh || second.Access == first.Access {
		t.Error("the tokens did not change")
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: second.Access}).want(200)
	p.refresh(second.Refresh).want(200).into(&third)

	// The first token comes again: somebody has stolen it, so everything that descends from it ends.
	p.refresh(first.Refresh).want(401, auth.ErrSessionRevoked)
	p.refresh(third.Refresh).want(401, auth.ErrSessionRevoked)
	for _, tk := range []tokens{first, second, third} {
		p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	}
	for _, bad := range []string{"nonsense", "ncr_", first.Access[:200]} {
		p.refresh(bad).want(401, auth.ErrInvalidToken)
	}
}

// However many use one refresh token at once, at most one gets new tokens, and then the session ends.
func TestRefreshRace(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	tk := p.admin()
	answers := make([]answer, 4)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = p.refresh(tk.Refresh) })
	}
	wg.Wait()
	good := 0
	for _, a := range answers {
		if a.status == 200 {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of %d were given tokens", good, len(answers))
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.RefreshTTL, s.cfg.SessionTTL = 24*time.Hour, 60*time.Hour
	p := s.start(t)
	idle, used := p.admin(), p.admin()
	s.clock.forward(20 * time.Hour)
	p.refresh(used.Refresh).want(200).into(&used)
	s.clock.forward(20 * time.Hour)
	p.refresh(idle.Refresh).want(401, auth.ErrSessionExpired)
	p.refresh(used.Refresh).want(200).into(&used)
	s.clock.forward(19*time.Hour + 50*time.Minute) // ten minutes before the session is as old as it may be
	p.refresh(used.Refresh).want(200).into(&used)
	if used.Expires > 600 {
		t.Errorf("the access token outlives its session: %d s", used.Expires)
	}
	s.clock.forward(11 * time.Minute)
	p.refresh(used.Refresh).want(401, auth.ErrSessionExpired)
}

func TestBruteForce(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	password := p.initialPassword()
	guess := func(from, password string) answer {
		return p.do(call{method: "POST", path: "/auth/login", from: from, body: object{"username": "admin", "password": password}})
	}
	refused := 0
	for range 20 {
		a := guess("192.0.2.66", "a wrong password")
		if a.status == 401 {
			continue
		}
		a.want(429, auth.ErrThrottled)
		if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 1 {
			t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
		}
		refused++
	}
	if refused < 10 {
		t.Errorf("of 20 guesses %d were refused", refused)
	}
	// The right password does not help there, and is all that is needed elsewhere.
	guess("192.0.2.66", password).want(429)
	guess("192.0.2.67", password).want(200)
	// A name that does not exist is throttled alike.
	for i := range 12 {
		a := p.do(call{method: "POST", path: "/auth/login", from: "192.0.2.68", body: object{"username": "nobody", "password": "x"}})
		if want := 401; i > 6 && a.status == want {
			t.Errorf("guess %d at nobody's password: %d", i+1, a.status)
		}
	}
}

func TestNoLoginWithoutCache(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	tk := p.admin()
	p.site.cache.fail(errors.New("connection refused"))
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "admin", "password": p.initialPassword()}}).want(503, auth.ErrUnavailable)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200) // whoever is in stays in
	p.do(call{method: "POST", path: "/auth/logout", token: tk.Access}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(401, auth.ErrSessionRevoked)
	p.site.cache.fail(nil)
	p.admin()
}

// Higher costs apply to an account from its next login on.
func TestRehash(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(t)
	if got := s.hashOf(t, "admin"); !strings.Contains(got, "m=64,t=1,") {
		t.Fatalf("hash %s", got)
	}
	s.cfg.PasswordIterations = 3
	p := s.start(t)
	p.admin()
	if got := s.hashOf(t, "admin"); !strings.Contains(got, "m=64,t=3,") {
		t.Errorf("hash %s", got)
	}
	p.admin()
}
