package authmodule_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// enrolment and loginAnswer are what the routes give.
type enrolment struct {
	Secret string    `json:"secret"`
	URI    string    `json:"otpauth_uri"`
	PNG    string    `json:"qr_png"`
	Until  time.Time `json:"expires_at"`
}

type loginAnswer struct {
	tokens
	MFARequired    bool     `json:"mfa_required"`
	MFAToken       string   `json:"mfa_token"`
	Methods        []string `json:"methods"`
	Enrol          bool     `json:"mfa_enrolment_required"`
	ChangePassword bool     `json:"password_change_required"`
}

// phone is an authenticator app.
type phone struct {
	p      *process
	secret string
}

func (f phone) code() string {
	f.p.t.Helper()
	code, err := totp.GenerateCode(f.secret, f.p.site.clock.now())
	if err != nil {
		f.p.t.Fatal(err)
	}
	return code
}

// later gives a code of the next time step, which was not used yet.
func (f phone) later() string {
	f.p.site.clock.forward(30 * time.Second)
	return f.code()
}

func (p *process) begin(username, password string) loginAnswer {
	p.t.Helper()
	var a loginAnswer
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": username, "password": password}}).want(200).into(&a)
	return a
}

func (p *process) prove(token, code string) answer {
	p.t.Helper()
	return p.do(call{method: "POST", path: "/auth/login/mfa", body: object{"mfa_token": token, "code": code}})
}

func (p *process) enrol(token string, body any) (phone, answer) {
	p.t.Helper()
	a := p.do(call{method: "POST", path: "/api/v1/me/mfa/enrol", token: token, body: body})
	var e enrolment
	if a.status == 200 {
		a.into(&e)
	}
	return phone{p, e.Secret}, a
}

// withMFA sets a second factor up for who holds the token, and gives it with the recovery codes.
func (p *process) withMFA(token string) (phone, []string) {
	p.t.Helper()
	f, a := p.enrol(token, nil)
	a.want(200)
	var codes struct {
		Codes []string `json:"recovery_codes"`
	}
	p.do(call{method: "POST", path: "/api/v1/me/mfa/verify", token: token, body: object{"code": f.code()}}).want(200).into(&codes)
	if len(codes.Codes) != 10 {
		p.t.Fatalf("recovery codes %v", codes.Codes)
	}
	return f, codes.Codes
}

func TestEnrolAndLogIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	u := p.addUser(p.admin().Access, "ada", "user", nil)
	tk, other := p.login("ada", goodPassword), p.login("ada", goodPassword)

	a := p.do(call{method: "POST", path: "/api/v1/me/mfa/enrol", token: tk.Access}).want(200)
	var e enrolment
	a.into(&e)
	if a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(e.URI, "otpauth://totp/novacron:ada?") {
		t.Errorf("enrolment %+v, %v", e, a.header)
	}
	picture, err := base64.StdEncoding.DecodeString(e.PNG)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
		t.Errorf("the QR code: %v", err)
	}
	if uri, err := url.Parse(e.URI); err != nil || uri.Query().Get("secret") != e.Secret {
		t.Errorf("URI %s", e.URI)
	}
	// It is not in force before its first code, and a wrong one does not put it there.
	if got := p.begin("ada", goodPassword); got.MFARequired {
		t.Error("an app counts that was not confirmed")
	}
	p.do(call{method: "POST", path: "/api/v1/me/mfa/verify", token: tk.Access, body: object{"code": "000000"}}).want(422, auth.ErrWrongCode)
	f := phone{p, e.Secret}
	var codes struct {
		Codes []string `json:"recovery_codes"`
	}
	p.do(call{method: "POST", path: "/api/v1/me/mfa/verify", token: tk.Access, body: object{"code": f.code()}}).want(200).into(&codes)
	p.do(call{method: "GET", path: "/api/v1/me", token: tk.Access}).want(200)
	p.do(call{method: "GET", path: "/api/v1/me", token: other.Access}).want(401, auth.ErrSessionRevoked) // it was opened without

	// The password alone opens nothing any more.
	got := p.begin("ada", goodPassword)
	if !got.MFARequired || got.MFAToken == "" || got.Access != "" || got.Refresh != "" || strings.Join(got.Methods, " ") != "totp recovery_code" {
		t.Fatalf("login %+v", got)
	}
	p.do(call{method: "GET", path: "/api/v1/me", token: got.MFAToken}).want(401, auth.ErrInvalidToken)
	p.prove(got.MFAToken, f.code()).want(401, auth.ErrMFACode) // the code that confirmed the app was used
	p.prove(got.MFAToken, "123").want(401, auth.ErrMFACode)
	code := f.later()
	var full loginAnswer
	p.prove(got.MFAToken, code[:3]+" "+code[3:]).want(200).into(&full)
	p.do(call{method: "GET", path: "/api/v1/me", token: full.Access}).want(200)
	p.prove(got.MFAToken, f.later()).want(401, auth.ErrMFAToken) // it works once
	second := p.begin("ada", goodPassword)
	p.prove(second.MFAToken, code).want(401, auth.ErrMFACode) // and so does the code
	p.prove("ncm_nonsense", f.later()).want(401, auth.ErrMFAToken)

	// A recovery code works once, however it is written.
	var byRecovery loginAnswer
	p.prove(second.MFAToken, strings.ToUpper(strings.ReplaceAll(codes.Codes[3], "-", " "))).want(200).into(&byRecovery)
	third := p.begin("ada", goodPassword)
	p.prove(third.MFAToken, codes.Codes[3]).want(401, auth.ErrMFACode)
	var status struct {
		Enabled bool     `json:"enabled"`
		Left    int      `json:"recovery_codes_left"`
		Methods []string `json:"methods"`
	}
	p.do(call{method: "GET", path: "/api/v1/me/mfa", token: byRecovery.Access}).want(200).into(&status)
	if !status.Enabled || status.Left != 9 || len(status.Methods) != 2 {
		t.Errorf("status %+v", status)
	}
	// A challenge ends by itself, and with a new password.
	fourth := p.begin("ada", goodPassword)
	s.clock.forward(6 * time.Minute)
	p.prove(fourth.MFAToken, f.code()).want(401, auth.ErrMFAToken)
	fifth := p.begin("ada", goodPassword)
	p.do(call{method: "POST", path: "/api/v1/users/" + u.ID.String() + "/password", token: p.admin().Access, body: object{"password": "another good passphrase"}}).want(204)
	p.prove(fifth.MFAToken, f.later()).want(401, auth.ErrMFAToken)

	// The secret cannot be read from the database, and no recovery code is there.
	sealed := query[[]byte](t, s, "SELECT secret FROM auth.mfa_totp WHERE user_id = $1", u.ID)
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, raw) || bytes.Contains(sealed, []byte(e.Secret)) {
		t.Error("the secret lies open in the database")
	}
	if n := query[int](t, s, "SELECT count(*) FROM auth.mfa_recovery_codes WHERE code_hash = $1", []byte(codes.Codes[0])); n != 0 {
		t.Error("a recovery code lies open in the database")
	}
}

// Of many who use one code at once, one gets in.
func TestOneCodeOneLogin(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	f, recovery := p.withMFA(p.login("ada", goodPassword).Access)
	for _, code := range []string{f.later(), recovery[0]} {
		challenges := make([]loginAnswer, 4)
		for i := range challenges {
			challenges[i] = p.begin("ada", goodPassword)
		}
		answers := make([]answer, len(challenges))
		var wg sync.WaitGroup
		for i := range challenges {
			wg.Go(func() {
				answers[i] = p.do(call{method: "POST", path: "/auth/login/mfa", from: "198.51.100." + strconv.Itoa(i+1), body: object{"mfa_token": challenges[i].MFAToken, "code": code}})
			})
		}
		wg.Wait()
		good := 0
		for _, a := range answers {
			if a.status == 200 {
				good++
			} else {
				a.want(401, auth.ErrMFACode)
			}
		}
		if good != 1 {
			t.Errorf("%d of %d got in with one code", good, len(answers))
		}
	}
}

func TestGuessingCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	f, _ := p.withMFA(p.login("ada", goodPassword).Access) // from 192.0.2.1, which is hers from now on
	try := func(from, token, code string) answer {
		return p.do(call{method: "POST", path: "/auth/login/mfa", from: from, body: object{"mfa_token": token, "code": code}})
	}
	begin := func(from string) string {
		var a loginAnswer
		p.do(call{method: "POST", path: "/auth/login", from: from, body: object{"username": "ada", "password": goodPassword}}).want(200).into(&a)
		return a.MFAToken
	}
	// Whoever has the password has five tries, and then begins again, and soon has to wait.
	token := begin("203.0.113.9")
	for range 5 {
		try("203.0.113.9", token, "000000").want(401, auth.ErrMFACode)
	}
	throttled := 0
	for range 10 {
		switch a := try("203.0.113.9", token, "000000"); a.status {
		case 401:
			a.want(401, auth.ErrMFAToken)
		default:
			a.want(429, auth.ErrThrottled)
			throttled++
		}
	}
	if throttled < 8 {
		t.Errorf("%d of ten were made to wait", throttled)
	}
	// From many addresses it is no better: the account itself makes them wait.
	stopped := false
	for i := range 60 {
		from := "203.0.113." + strconv.Itoa(20+i)
		if a := try(from, begin(from), "000000"); a.status == 429 {
			stopped = true
			break
		}
	}
	if !stopped {
		t.Error("from enough addresses anybody can guess on")
	}
	// Its owner gets in all the same from where they are known, at once; and from elsewhere after a while.
	try("192.0.2.1", begin("192.0.2.1"), f.later()).want(200)
}

// A second factor is asked for once more where it is changed, and taken away only by who can prove something.
func TestChangeMFA(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	tk := p.login("ada", goodPassword)
	const base = "/api/v1/me/mfa/"
	post := func(path string, body any) answer {
		return p.do(call{method: "POST", path: base + path, token: tk.Access, body: body})
	}
	post("disable", object{"password": goodPassword}).want(409, auth.ErrMFAOff)
	post("recovery-codes", object{"password": goodPassword}).want(409, auth.ErrMFAOff)
	post("verify", object{"code": "123456"}).want(409, auth.ErrMFANotPending)
	s.clock.forward(14 * time.Minute)
	p.refresh(tk.Refresh).want(200).into(&tk)
	s.clock.forward(2 * time.Minute)
	post("enrol", nil).want(403, auth.ErrReauthenticate) // the login is some time ago
	post("enrol", object{"password": "not it"}).want(422, auth.ErrWrongPassword)
	first, a := p.enrol(tk.Access, object{"password": goodPassword})
	a.want(200)
	s.clock.forward(11 * time.Minute)
	p.refresh(tk.Refresh).want(200).into(&tk)
	post("verify", object{"code": first.code()}).want(409, auth.ErrMFANotPending) // too late
	first, a = p.enrol(tk.Access, object{"password": goodPassword})
	a.want(200)
	post("verify", object{"code": first.code()}).want(200)

	// A new phone replaces the old one, when it has shown that it works.
	post("enrol", nil).want(403, auth.ErrReauthenticate)
	second, a := p.enrol(tk.Access, object{"code": first.later()})
	a.want(200)
	p.prove(p.begin("ada", goodPassword).MFAToken, first.later()).want(200)
	post("verify", object{"code": second.code()}).want(200)
	p.prove(p.begin("ada", goodPassword).MFAToken, first.later()).want(401, auth.ErrMFACode)
	p.prove(p.begin("ada", goodPassword).MFAToken, second.later()).want(200)

	// New recovery codes end the old ones.
	var codes, fresh struct {
		Codes []string `json:"recovery_codes"`
	}
	post("recovery-codes", object{"code": second.later()}).want(200).into(&codes)
	post("recovery-codes", object{}).want(403, auth.ErrReauthenticate)
	post("recovery-codes", object{"password": goodPassword}).want(200).into(&fresh)
	p.prove(p.begin("ada", goodPassword).MFAToken, codes.Codes[0]).want(401, auth.ErrMFACode)
	p.prove(p.begin("ada", goodPassword).MFAToken, fresh.Codes[0]).want(200)

	post("disable", nil).want(403, auth.ErrReauthenticate)
	post("disable", object{"code": "000000"}).want(422, auth.ErrWrongCode)
	post("disable", object{"code": fresh.Codes[1]}).want(204)
	if p.begin("ada", goodPassword).MFARequired {
		t.Error("it is still asked for")
	}
	if n := query[int](t, s, "SELECT count(*) FROM auth.mfa_totp") + query[int](t, s, "SELECT count(*) FROM auth.mfa_recovery_codes"); n != 0 {
		t.Errorf("%d rows are left behind", n)
	}
}

// An administrator takes away the second factor of who has lost it, but of nobody who may do more than they.
func TestResetMFA(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	ada := p.addUser(adm, "ada", "user", nil)
	var role auth.Role
	p.do(call{method: "POST", path: "/api/v1/roles", token: adm, body: object{"name": "helpdesk", "permissions": []string{"user:*", "vm:*"}}}).want(201).into(&role)
	help := p.addUser(adm, "help", "helpdesk", nil)
	elsewhere := p.addTenant(adm, "elsewhere")
	stranger := p.addUser(adm, "stranger", "user", &elsewhere)
	desk := p.login("help", goodPassword).Access
	reset := func(token string, id uuid.UUID) answer {
		return p.do(call{method: "DELETE", path: "/api/v1/users/" + id.String() + "/mfa", token: token})
	}
	session := p.login("ada", goodPassword)
	p.withMFA(session.Access)
	reset(session.Access, ada.ID).want(403, httpx.ErrForbidden)
	reset(desk, ada.ID).want(403, auth.ErrGrantExceedsOwn) // she holds image:* and more
	reset(desk, stranger.ID).want(404, auth.ErrUserNotFound)
	reset(desk, uuid.New()).want(404, auth.ErrUserNotFound)
	reset(desk, help.ID).want(409, auth.ErrOwnMFA)
	if !p.begin("ada", goodPassword).MFARequired {
		t.Fatal("a refused reset was carried out")
	}
	reset(adm, ada.ID).want(204)
	p.do(call{method: "GET", path: "/api/v1/me", token: session.Access}).want(401, auth.ErrSessionRevoked)
	if p.begin("ada", goodPassword).MFARequired {
		t.Error("it is still asked for")
	}
	reset(adm, ada.ID).want(204) // there is nothing, and that is fine
}

// What is lost with the key says so, and leaves a way in.
func TestKeyOfSecretsIsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	f, recovery := p.withMFA(p.login("ada", goodPassword).Access)
	if err := os.Remove(filepath.Join(s.cfg.DataDir, "keys", "secrets.key")); err != nil {
		t.Fatal(err)
	}
	again := s.start(t)
	again.prove(again.begin("ada", goodPassword).MFAToken, f.later()).want(503, auth.ErrMFAUnreadable)
	again.prove(again.begin("ada", goodPassword).MFAToken, recovery[0]).want(200)
}

func TestMFAPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	adm := p.admin().Access
	org := p.addTenant(adm, "org")
	ada, bob := p.addUser(adm, "ada", "operator", &org), p.addUser(adm, "bob", "user", &org)
	_ = bob
	outside := p.addUser(adm, "outside", "user", nil)
	p.bind(adm, outside.ID, org.ID, "viewer").want(201)
	tokenOf := func(name string) string { return p.login(name, goodPassword).Access }
	adaToken, bobToken, outsideToken := tokenOf("ada"), tokenOf("bob"), tokenOf("outside")
	var key struct {
		Key string `json:"key"`
	}
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: bobToken, body: object{"name": "bobs"}}).want(201).into(&key)
	set := func(c call, body object) answer {
		c.method, c.path, c.body = "PUT", "/api/v1/mfa-policy"+c.path, body
		return p.do(c)
	}
	roles := func(token string) answer { return p.do(call{method: "GET", path: "/api/v1/roles", token: token}) }
	tenants := func(c call) answer { c.method, c.path = "GET", "/api/v1/tenants"; return p.do(c) }

	set(call{token: adaToken}, object{"required": true}).want(403, httpx.ErrForbidden)
	set(call{token: adm}, object{"required": false, "roles": []string{"no-such-role"}}).want(422, auth.ErrUnknownRole)
	tag := p.do(call{method: "GET", path: "/api/v1/mfa-policy", token: adm}.in(org.ID)).want(200).header.Get("ETag")
	stale := call{token: adm, header: map[string]string{"If-Match": `"0000"`}}
	set(stale.in(org.ID), object{"required": true}).want(412, auth.ErrVersion)

	// For a role: at once, in open sessions.
	tenants(call{token: adaToken}).want(200)
	fresh := call{token: adm, header: map[string]string{"If-Match": tag}}
	set(fresh.in(org.ID), object{"required": false, "roles": []string{"operator"}}).want(200)
	tenants(call{token: adaToken}).want(403, httpx.ErrMFAEnrolment)
	roles(adaToken).want(403, httpx.ErrMFAEnrolment)
	tenants(call{token: bobToken}).want(200)
	var grants struct {
		Permissions []string `json:"permissions"`
		Platform    []string `json:"platform_permissions"`
	}
	p.do(call{method: "GET", path: "/api/v1/me/permissions", token: adaToken}).want(200).into(&grants)
	if len(grants.Permissions)+len(grants.Platform) != 0 {
		t.Errorf("permissions leak: %+v", grants)
	}
	if !p.begin("ada", goodPassword).Enrol || p.begin("bob", goodPassword).Enrol {
		t.Error("the login does not say who must enrol")
	}
	// Everything but the way out is closed.
	for _, c := range []call{
		{method: "GET", path: "/api/v1/me/sessions"}, {method: "GET", path: "/api/v1/users"}, {method: "POST", path: "/api/v1/api-keys", body: object{"name": "way-around"}},
		{method: "GET", path: "/api/v1/me/tenants"}, {method: "GET", path: "/api/v1/mfa-policy"},
	} {
		c.token = adaToken
		p.do(c).want(403, httpx.ErrMFAEnrolment)
	}
	// Enrolled, the very session goes on.
	p.withMFA(adaToken)
	tenants(call{token: adaToken}).want(200)
	p.do(call{method: "POST", path: "/api/v1/me/mfa/disable", token: adaToken, body: object{"password": goodPassword}}).want(409, auth.ErrMFARequired)

	// For everybody of the tenant, and whoever acts there; API keys are no way around.
	set(call{token: adm}.in(org.ID), object{"required": true}).want(200)
	tenants(call{token: bobToken}).want(403, httpx.ErrMFAEnrolment)
	p.withKey(key.Key, "/api/v1/tenants").want(403, httpx.ErrMFAEnrolment)
	tenants(call{token: outsideToken}).want(200)
	tenants(call{token: outsideToken}.in(org.ID)).want(403, httpx.ErrMFAEnrolment)
	tenants(call{token: adaToken}).want(200)
	var project auth.Tenant
	p.do(call{method: "POST", path: "/api/v1/tenants", token: adm, body: object{"name": "project", "parent_id": org.ID}}).want(201).into(&project)
	p.addUser(adm, "carol", "user", &project)
	if !p.begin("carol", goodPassword).Enrol {
		t.Error("what holds in the organisation does not hold in its project")
	}
	f, _ := p.withMFA(bobToken)
	p.withKey(key.Key, "/api/v1/tenants").want(200)
	_ = f

	// Everywhere, which takes the platform; administrators themselves are no exception, and the way out works for them too.
	set(call{token: adaToken, path: "?scope=platform"}, object{"required": true}).want(403)
	set(call{token: adm, path: "?scope=platform"}, object{"required": false, "roles": []string{"admin"}}).want(200)
	roles(adm).want(403, httpx.ErrMFAEnrolment)
	p.withMFA(adm)
	roles(adm).want(200)
	set(call{token: adm}.in(org.ID), object{"required": false}).want(200)
	tenants(call{token: outsideToken}.in(org.ID)).want(200)

	// A service account has no phone; its keys work.
	var service auth.User
	p.do(call{method: "POST", path: "/api/v1/service-accounts", token: adm, body: object{"name": "robot", "role": "viewer"}}).want(201).into(&service)
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: adm, body: object{"name": "robots", "user_id": service.ID}}).want(201).into(&key)
	set(call{token: adm, path: "?scope=platform"}, object{"required": true}).want(200)
	p.withKey(key.Key, "/api/v1/tenants").want(200)
	tenants(call{token: outsideToken}).want(403, httpx.ErrMFAEnrolment)
	_ = ada
}

// A key is nobody's hands: it changes no second factor. And who has a one-time password replaces that first.
func TestMFAIsForPeople(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	var key struct {
		Key string `json:"key"`
	}
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: adm, body: object{"name": "k"}}).want(201).into(&key)
	p.withKey(key.Key, "/api/v1/me/mfa").want(403, auth.ErrLoginNeeded)
	var made struct {
		OneTime string `json:"one_time_password"`
	}
	p.do(call{method: "POST", path: "/api/v1/users", token: adm, body: object{"username": "new"}}).want(201).into(&made)
	p.do(call{method: "PUT", path: "/api/v1/mfa-policy?scope=platform", token: adm, body: object{"required": true}}).want(200)
	got := p.begin("new", made.OneTime)
	if !got.ChangePassword || !got.Enrol {
		t.Errorf("login %+v", got)
	}
	_, a := p.enrol(got.Access, nil)
	a.want(403, httpx.ErrPasswordChange)
	p.do(call{method: "PUT", path: "/api/v1/me/password", token: got.Access, body: object{"current_password": made.OneTime, "new_password": goodPassword}}).want(204)
	p.do(call{method: "GET", path: "/api/v1/me/tenants", token: got.Access}).want(403, httpx.ErrMFAEnrolment)
	p.withMFA(got.Access)
	p.do(call{method: "GET", path: "/api/v1/me/tenants", token: got.Access}).want(200)
}

// Hostile texts are texts.
func TestHostileCodes(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	p.withMFA(p.login("ada", goodPassword).Access)
	for i, code := range []string{"' OR 1=1 --", "１２３４５６", "12345\n", "-1", "0x1234", "999999999999", strings.Repeat("é", 64), "\u202e123456", "{{.}}"} {
		token := p.begin("ada", goodPassword).MFAToken
		a := p.do(call{method: "POST", path: "/auth/login/mfa", from: "198.51.100." + strconv.Itoa(i+1), body: object{"mfa_token": token, "code": code}})
		if a.status != 401 && a.status != 422 {
			t.Errorf("%q: %d %s", code, a.status, a.body)
		}
	}
	for _, body := range []any{object{}, object{"mfa_token": "x"}, object{"mfa_token": "x", "code": strings.Repeat("1", 65)}, object{"mfa_token": 1, "code": "1"},
		object{"mfa_token": "x\x00", "code": "1"}, `[]`} {
		if a := p.do(call{method: "POST", path: "/auth/login/mfa", body: body}); a.status != 422 && a.status != 401 {
			t.Errorf("%v: %d", body, a.status)
		}
	}
	var problem errs.Problem
	p.do(call{method: "POST", path: "/auth/login/mfa", body: `{"`}).want(400).into(&problem)
}

// withKey reads a list with an API key.
func (p *process) withKey(key, path string) answer {
	p.t.Helper()
	return p.do(call{method: "GET", path: path, key: key})
}

// The audit trail tells who proved what, and never with what.
func TestMFAIsAudited(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	adm := p.admin().Access
	ada := p.addUser(adm, "ada", "user", nil)
	f, recovery := p.withMFA(p.login("ada", goodPassword).Access)
	token := p.begin("ada", goodPassword).MFAToken
	p.prove(token, "000000").want(401)
	code := f.later()
	p.prove(token, code).want(200)
	p.prove(p.begin("ada", goodPassword).MFAToken, recovery[0]).want(200)
	p.do(call{method: "DELETE", path: "/api/v1/users/" + ada.ID.String() + "/mfa", token: adm}).want(204)
	var made struct {
		Token string `json:"token"`
	}
	p.do(call{method: "POST", path: "/api/v1/users/" + ada.ID.String() + "/password-link", token: adm}).want(201).into(&made)
	p.useLink(made.Token, nextPassword).want(204)

	for _, query := range []string{
		"action=me-mfa.verify&user=ada", "action=auth-login.mfa&user=ada&result=refused", "action=auth-login.mfa&user=ada&result=success",
		"action=user-mfa.reset&user=admin", "action=user-password.link&user=admin", "action=auth-password.reset&user=ada",
	} {
		p.recorded(adm, query)
	}
	text, err := json.Marshal(p.search(adm, "limit=500"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{f.secret, recovery[0], token, made.Token, code, nextPassword} {
		if bytes.Contains(text, []byte(`"`+secret)) {
			t.Errorf("%.12s… is in the audit trail", secret)
		}
	}
	if !bytes.Contains(text, []byte("recovery_code")) || !bytes.Contains(text, []byte("asked for")) {
		t.Errorf("the methods are not told: %s", text)
	}
}
