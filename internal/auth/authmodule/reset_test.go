package authmodule_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/platform/mail/smtptest"
)

func (s *site) mailThrough(t testing.TB, opts smtptest.Options) *smtptest.Server {
	t.Helper()
	server := smtptest.Start(t, opts)
	sender, err := mail.New(mail.Config{Host: "127.0.0.1", Port: server.Port, TLS: mail.TLSStart, CAFile: server.CAFile, Username: opts.Username, Password: opts.Password,
		From: "NovaCron <cloud@example.org>", Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.mail, s.cfg.PublicURL = sender, "https://cloud.example.org/"
	return server
}

func (p *process) addMailUser(token, username, email string) auth.User {
	p.t.Helper()
	var u auth.User
	p.do(call{method: "POST", path: "/api/v1/users", token: token, body: object{"username": username, "password": goodPassword, "email": email}}).want(201).into(&u)
	return u
}

func (p *process) forgot(email, from string) answer {
	p.t.Helper()
	return p.do(call{method: "POST", path: "/auth/password/forgot", from: from, body: object{"email": email}})
}

func (p *process) useLink(token, password string) answer {
	p.t.Helper()
	return p.do(call{method: "POST", path: "/auth/password/reset", body: object{"token": token, "new_password": password}})
}

var linkForm = regexp.MustCompile(`https://cloud\.example\.org/auth/password/reset\?token=(ncp_[A-Za-z0-9_-]{43})`)

func tokenIn(t *testing.T, m smtptest.Mail) string {
	t.Helper()
	found := linkForm.FindStringSubmatch(m.Body)
	if found == nil {
		t.Fatalf("no link in %q", m.Body)
	}
	return found[1]
}

const nextPassword = "moss under the third bridge"

func TestPasswordByMail(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.mailThrough(t, smtptest.Options{StartTLS: true, Username: "relay", Password: "for mail"})
	p := s.start(t)
	adm := p.admin().Access
	u := p.addMailUser(adm, "ada", "Ada@Example.org")
	session := p.login("ada", goodPassword)
	f, _ := p.withMFA(session.Access)

	known := p.forgot("ada@example.org", "192.0.2.50").want(202)
	unknown := p.forgot("nobody@example.org", "192.0.2.51").want(202)
	if string(known.body) != string(unknown.body) || len(known.header) != len(unknown.header) {
		t.Errorf("the answers tell who is here: %v %q, %v %q", known.header, known.body, unknown.header, unknown.body)
	}
	m := server.Await(t, 1)[0]
	if m.To != "Ada@Example.org" || !m.Encrypted || m.User != "relay" || !strings.Contains(m.Body, "192.0.2.50") {
		t.Errorf("mail %+v", m)
	}
	first := tokenIn(t, m)
	if n := query[int](t, s, "SELECT count(*) FROM auth.password_resets WHERE token_hash = $1", []byte(first)); n != 0 {
		t.Error("the token lies open in the database")
	}
	// A later link replaces it.
	p.forgot("ada@example.org", "192.0.2.50").want(202)
	second := tokenIn(t, server.Await(t, 2)[1])
	p.useLink(first, nextPassword).want(422, auth.ErrResetToken)
	p.useLink(second, "short").want(422, auth.ErrWeakPassword)
	p.useLink(second, "password-2026").want(422, auth.ErrWeakPassword)
	p.do(call{method: "GET", path: "/api/v1/me", token: session.Access}).want(200) // nothing has happened yet
	p.useLink(second, nextPassword).want(204)
	p.useLink(second, nextPassword+"!").want(422, auth.ErrResetToken)
	p.do(call{method: "GET", path: "/api/v1/me", token: session.Access}).want(401, auth.ErrSessionRevoked)
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "ada", "password": goodPassword}}).want(401, auth.ErrInvalidCredentials)
	got := p.begin("ada", nextPassword)
	if !got.MFARequired {
		t.Error("a link is a way around the second factor")
	}
	p.prove(got.MFAToken, f.later()).want(200)

	// Links end: in time, and with any other change of the password.
	p.forgot("ada@example.org", "192.0.2.60").want(202)
	third := tokenIn(t, server.Await(t, 3)[2])
	s.clock.forward(61 * time.Minute)
	p.useLink(third, goodPassword).want(422, auth.ErrResetToken)
	p.forgot("ada@example.org", "192.0.2.61").want(202)
	fourth := tokenIn(t, server.Await(t, 4)[3])
	p.do(call{method: "POST", path: "/api/v1/users/" + u.ID.String() + "/password", token: p.admin().Access, body: object{"password": goodPassword}}).want(204)
	p.useLink(fourth, nextPassword).want(422, auth.ErrResetToken)

	// Nobody who could not log in gets one, and the mailbox of who can is not filled.
	within(t, time.Minute, "requests are dealt with", func() bool { return query[int](t, s, "SELECT count(*) FROM auth.password_reset_requests") == 0 })
	p.do(call{method: "PATCH", path: "/api/v1/users/" + u.ID.String(), token: p.admin().Access, body: object{"disabled": true}}).want(200)
	p.forgot("ada@example.org", "192.0.2.62").want(202)
	within(t, time.Minute, "requests are dealt with", func() bool { return query[int](t, s, "SELECT count(*) FROM auth.password_reset_requests") == 0 })
	if n := len(server.Mails()); n != 4 {
		t.Errorf("%d mails", n)
	}
	throttled := false
	for range 12 {
		throttled = throttled || p.forgot("victim@example.org", "192.0.2.63").status == http.StatusTooManyRequests
	}
	if !throttled {
		t.Error("one address can ask without end")
	}
	for _, body := range []any{object{}, object{"email": ""}, object{"email": "no address"}, object{"email": "a@b\r\nBcc: c@d"}, object{"email": 7}, object{"email": strings.Repeat("a", 300) + "@b.c"}} {
		p.do(call{method: "POST", path: "/auth/password/forgot", from: "192.0.2.64", body: body}).want(422)
	}
}

// A server of mail that is away or refuses is tried again, by whichever process is there.
func TestMailIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.mailThrough(t, smtptest.Options{StartTLS: true, Refuse: func(n int) string {
		if n == 1 {
			return "451 4.3.0 try again later"
		}
		return ""
	}})
	p := s.start(t)
	p.addMailUser(p.admin().Access, "ada", "ada@example.org")
	p.forgot("ada@example.org", "").want(202)
	within(t, time.Minute, "the first try fails", func() bool {
		return query[int](t, s, "SELECT count(*) FROM auth.password_reset_requests WHERE tries = 1 AND next_try_at < now() + interval '2 minutes'") == 1 // it has been put off
	})
	if len(server.Mails()) != 0 {
		t.Error("a refused mail was taken")
	}
	if err := p.module.Stop(t.Context()); err != nil { // and another process goes on
		t.Fatal(err)
	}
	s.clock.forward(30 * time.Minute) // also if the first process was stopped within its try
	again := s.start(t)
	again.useLink(tokenIn(t, server.Await(t, 1)[0]), nextPassword).want(204)
	within(t, time.Minute, "the request is removed", func() bool { return query[int](t, s, "SELECT count(*) FROM auth.password_reset_requests") == 0 })
}

// deadMail is a server of mail that never is there.
type deadMail struct{ tried chan struct{} }

func (d deadMail) Send(context.Context, mail.Message) error {
	d.tried <- struct{}{}
	return errors.New("connection refused")
}

func TestMailIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead := deadMail{make(chan struct{}, 100)}
	s.mail = dead
	p := s.start(t)
	p.addMailUser(p.admin().Access, "ada", "ada@example.org")
	p.forgot("ada@example.org", "").want(202)
	late := time.After(2 * time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for tries, others := 0, 0; tries < 6; {
		select {
		case <-dead.tried:
			tries++
		case <-tick.C: // another wish has the worker look again, and time passes
			others++
			s.clock.forward(time.Hour)
			p.forgot(fmt.Sprintf("nobody-%d@example.org", others), fmt.Sprintf("198.51.100.%d", 1+others%250)).want(202)
		case <-late:
			t.Fatalf("it was tried %d times", tries)
		}
	}
	within(t, time.Minute, "it is given up", func() bool { return query[int](t, s, "SELECT count(*) FROM auth.password_reset_requests") == 0 })
}

func TestNoMail(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	p.forgot("ada@example.org", "").want(409, auth.ErrMailOff)
	p.forgot("nobody@example.org", "").want(409, auth.ErrMailOff)
	adm := p.admin().Access
	ada := p.addUser(adm, "ada", "user", nil)
	p.addUser(adm, "bob", "operator", nil)
	link := func(token string, id uuid.UUID) answer {
		return p.do(call{method: "POST", path: "/api/v1/users/" + id.String() + "/password-link", token: token})
	}
	var made struct {
		Token string `json:"token"`
		URL   string `json:"url"`
	}
	a := link(adm, ada.ID).want(201)
	a.into(&made)
	if a.header.Get("Cache-Control") != "no-store" || made.URL != "/auth/password/reset?token="+made.Token {
		t.Errorf("link %+v, %v", made, a.header)
	}
	link(p.login("bob", goodPassword).Access, ada.ID).want(403, httpx.ErrForbidden)
	link(adm, uuid.New()).want(404, auth.ErrUserNotFound)
	var me auth.User
	p.do(call{method: "GET", path: "/api/v1/me", token: adm}).want(200).into(&me)
	link(adm, me.ID).want(409, auth.ErrOwnPassword)
	p.login("ada", goodPassword) // the link alone changes nothing
	p.useLink(made.Token, nextPassword).want(204)
	p.login("ada", nextPassword)
	for _, bad := range []string{"x", "ncp_", made.Token[:20], "' OR 1=1", strings.Repeat("x", 512)} {
		if a := p.useLink(bad, nextPassword); a.status != 422 && a.status != 429 {
			t.Errorf("%.20q: %d", bad, a.status)
		}
	}
}

// The page works without a script, and shows hostile texts as texts.
func TestResetPage(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	ada := p.addUser(adm, "ada", "user", nil)
	var made struct {
		Token string `json:"token"`
	}
	p.do(call{method: "POST", path: "/api/v1/users/" + ada.ID.String() + "/password-link", token: adm}).want(201).into(&made)
	page := p.do(call{method: "GET", path: "/auth/password/reset?token=" + url.QueryEscape(`"><script>alert(1)</script>`)}).want(200)
	if strings.Contains(string(page.body), "<script>alert") || !strings.Contains(page.header.Get("Content-Security-Policy"), "form-action 'self'") || page.header.Get("Cache-Control") != "no-store" {
		t.Errorf("page %s, %v", page.body, page.header)
	}
	send := func(values url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/auth/password/reset/form", strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "192.0.2.9:1"
		w := httptest.NewRecorder()
		p.http.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		token, first, second string
		status               int
		says                 string
	}{
		{made.Token, nextPassword, nextPassword + "x", 422, "not the same"},
		{made.Token, "short", "short", 422, "at least 12"},
		{"ncp_wrong", nextPassword, nextPassword, 422, "does not work"},
		{made.Token, nextPassword, nextPassword, 200, "password is set"},
		{made.Token, nextPassword, nextPassword, 422, "does not work"},
	} {
		w := send(url.Values{"token": {c.token}, "new_password": {c.first}, "repeated": {c.second}})
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%.12s %s %s: %d %s", c.token, c.first, c.second, w.Code, w.Body)
		}
	}
	p.login("ada", nextPassword)
}

// Who has the host has a way back in, whatever was done to the last administrator.
func TestRescue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	adm := p.admin()
	f, _ := p.withMFA(adm.Access)
	_ = f
	p.do(call{method: "PUT", path: "/api/v1/me/password", token: adm.Access, body: object{"current_password": p.initialPassword(), "new_password": nextPassword}}).want(204)

	rescue := func(req authmodule.RescueRequest) authmodule.Rescued {
		t.Helper()
		got, err := s.build(t).module.Rescue(t.Context(), req) // a process of its own, beside the one that runs
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := rescue(authmodule.RescueRequest{Username: "ADMIN"})
	if got.User.Username != "admin" || got.OneTimePassword == "" {
		t.Errorf("rescued %+v", got)
	}
	within(t, time.Minute, "sessions end", func() bool { return p.do(call{method: "GET", path: "/api/v1/me", token: adm.Access}).status == 401 })
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "admin", "password": nextPassword}}).want(401, auth.ErrInvalidCredentials)
	if in := p.begin("admin", got.OneTimePassword); !in.MFARequired {
		t.Error("the second factor went as well, though nobody asked")
	}
	got = rescue(authmodule.RescueRequest{Username: "admin", DisableMFA: true})
	in := p.begin("admin", got.OneTimePassword)
	if in.MFARequired || !in.ChangePassword {
		t.Errorf("login %+v", in)
	}
	p.do(call{method: "GET", path: "/api/v1/users", token: in.Access}).want(403, httpx.ErrPasswordChange)
	p.do(call{method: "PUT", path: "/api/v1/me/password", token: in.Access, body: object{"current_password": got.OneTimePassword, "new_password": goodPassword}}).want(204)
	p.do(call{method: "GET", path: "/api/v1/users", token: in.Access}).want(200)

	// Anybody can be made an administrator, and let in again.
	org := p.addTenant(in.Access, "org")
	u := p.addUser(in.Access, "ada", "viewer", &org)
	p.do(call{method: "PATCH", path: "/api/v1/users/" + u.ID.String(), token: in.Access, body: object{"disabled": true}}).want(200)
	p.do(call{method: "PATCH", path: "/api/v1/tenants/" + org.ID.String(), token: in.Access, body: object{"disabled": true}}).want(200)
	got = rescue(authmodule.RescueRequest{Username: "ada", Enable: true, Admin: true})
	if got.User.Role != auth.RoleAdmin || got.User.Disabled {
		t.Errorf("rescued %+v", got.User)
	}
	p.begin("ada", got.OneTimePassword)

	if _, err := s.build(t).module.Rescue(t.Context(), authmodule.RescueRequest{Username: "nobody"}); !errors.Is(err, auth.ErrUserNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := p.module.Rescue(t.Context(), authmodule.RescueRequest{Username: "ada"}); err == nil {
		t.Error("the module that runs rescues beside its API")
	}
	// An empty database is made first, and has nobody to rescue.
	fresh := newSite(t)
	if _, err := fresh.build(t).module.Rescue(t.Context(), authmodule.RescueRequest{Username: "admin"}); !errors.Is(err, auth.ErrUserNotFound) {
		t.Errorf("before the first start: %v", err)
	}
}
