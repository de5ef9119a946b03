package authmodule_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// madeKey is what the making or rotating of a key answers.
type madeKey struct {
	auth.APIKey
	Key string `json:"key"`
}

func (p *process) addKey(token string, body object) madeKey {
	p.t.Helper()
	if body["name"] == nil {
		body["name"] = "ci"
	}
	var k madeKey
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: body}).want(201).into(&k)
	return k
}

func (p *process) rotateSecret(token string, id uuid.UUID, body object) madeKey {
	p.t.Helper()
	var k madeKey
	p.do(call{method: "POST", path: keyPath(id) + "/rotate", token: token, body: body}).want(200).into(&k)
	return k
}

func keyPath(id uuid.UUID) string { return "/api/v1/api-keys/" + id.String() }

// me tells what the process makes of a key.
func (p *process) me(key string) answer {
	p.t.Helper()
	return p.do(call{method: "GET", path: "/api/v1/me", key: key})
}

func TestAPIKeyIsShownOnce(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	a := p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: object{"name": "ci", "permissions": []string{"vm:read", "user:read", "vm:read"}}}).want(201)
	var k madeKey
	a.into(&k)
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("ETag") != `"1"` {
		t.Errorf("headers %v", a.header)
	}
	if len(k.Permissions) != 2 || !strings.HasPrefix(k.Key, k.Prefix+"_") {
		t.Errorf("made %+v", k.APIKey)
	}
	var seen auth.APIKey
	one := p.do(call{method: "GET", path: keyPath(k.ID), token: token}).want(200)
	one.into(&seen)
	if seen.ID != k.ID || seen.Username != "admin" || *seen.CreatedBy != seen.UserID {
		t.Errorf("shown %+v", seen)
	}
	secret := strings.TrimPrefix(k.Key, k.Prefix+"_")
	for _, path := range []string{keyPath(k.ID), "/api/v1/api-keys", "/api/v1/api-keys?prefix=" + k.Prefix} {
		if b := p.do(call{method: "GET", path: path, token: token}).want(200); strings.Contains(string(b.body), secret) || !strings.Contains(string(b.body), k.Prefix) {
			t.Errorf("%s: %s", path, b.body)
		}
	}
	if p.queryText(`SELECT count(*)::text FROM auth.api_keys k WHERE k::text LIKE '%' || $1 || '%'`, secret) != "0" {
		t.Error("the secret is in the database")
	}
	var me struct {
		Username  string     `json:"username"`
		SessionID *uuid.UUID `json:"session_id"`
		APIKeyID  uuid.UUID  `json:"api_key_id"`
		Perms     []string   `json:"permissions"`
	}
	p.me(k.Key).want(200).into(&me)
	if me.Username != "admin" || me.SessionID != nil || me.APIKeyID != k.ID || fmt.Sprint(me.Perms) != "[user:read vm:read]" {
		t.Errorf("I am %+v", me)
	}
}

// What a key may not do although its owner may: act beyond its permissions, and act on logins.
func TestAPIKeyLimits(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	whole, narrow := p.addKey(token, object{}), p.addKey(token, object{"permissions": []string{"user:read", "api-key:*"}})
	p.do(call{method: "GET", path: "/api/v1/users", key: narrow.Key}).want(200)
	a := p.do(call{method: "POST", path: "/api/v1/tenants", key: narrow.Key, body: object{"name": "x"}}).want(403, httpx.ErrForbidden)
	if !strings.Contains(string(a.body), "tenant:write") {
		t.Errorf("the refusal does not name the permission: %s", a.body)
	}
	p.do(call{method: "POST", path: "/api/v1/tenants", key: whole.Key, body: object{"name": "x"}}).want(201)
	for _, c := range []call{
		{method: "PUT", path: "/api/v1/me/password", body: object{"current_password": p.initialPassword(), "new_password": goodPassword}},
		{method: "POST", path: "/api/v1/me/password", body: object{"current_password": p.initialPassword(), "new_password": goodPassword}},
		{method: "GET", path: "/api/v1/me/sessions"}, {method: "GET", path: "/api/v1/me/sessions/" + uuid.NewString()},
		{method: "DELETE", path: "/api/v1/me/sessions"}, {method: "DELETE", path: "/api/v1/me/sessions/" + uuid.NewString()},
		{method: "POST", path: "/auth/logout"},
	} {
		c.key = whole.Key
		p.do(c).want(403, auth.ErrLoginNeeded)
	}
	near := p.addKey(token, object{"scope": "tenant"})
	resp, err := p.module.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: near.Key})
	if err != nil || !resp.Principal.Allows("vm:create") || resp.Principal.Allows("node:write") || resp.Principal.AllowsPlatform("vm:create") {
		t.Errorf("an administrator's key for one tenant may do %+v, %v", resp.Principal, err)
	}
	p.do(call{method: "POST", path: "/api/v1/tenants", key: near.Key, body: object{"name": "y"}}).want(403)
	// A key must not make another one, or make one of its owner's, do what it cannot do itself.
	for _, body := range []object{{"name": "x"}, {"name": "x", "permissions": []string{"vm:read"}}, {"name": "x", "permissions": []string{"*"}}} {
		p.do(call{method: "POST", path: "/api/v1/api-keys", key: narrow.Key, body: body}).want(403, auth.ErrGrantExceedsOwn)
	}
	p.do(call{method: "POST", path: keyPath(whole.ID) + "/rotate", key: narrow.Key, body: object{}}).want(403, auth.ErrGrantExceedsOwn)
	p.do(call{method: "PATCH", path: keyPath(whole.ID), key: narrow.Key, body: object{"permissions": []string{"user:read"}}}).want(403, auth.ErrGrantExceedsOwn)
	p.do(call{method: "DELETE", path: keyPath(whole.ID), key: narrow.Key}).want(403, auth.ErrGrantExceedsOwn)
	p.do(call{method: "PATCH", path: keyPath(narrow.ID), key: narrow.Key, body: object{"permissions": []string{"*"}}}).want(403, auth.ErrGrantExceedsOwn)
	p.me(whole.Key).want(200)
}

// A key that ends makes nothing that does not, itself included.
func TestAPIKeyCannotOutliveItself(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	ends := time.Now().Add(time.Hour).UTC()
	k := p.addKey(token, object{"expires_at": ends})
	endless := p.addKey(token, object{})
	later := ends.Add(time.Second)
	for _, c := range []call{
		{method: "POST", path: "/api/v1/api-keys", body: object{"name": "x"}},
		{method: "POST", path: "/api/v1/api-keys", body: object{"name": "x", "expires_at": later}},
		{method: "PATCH", path: keyPath(k.ID), body: object{"expires_at": later}},
		{method: "POST", path: keyPath(k.ID) + "/rotate", body: object{"expires_at": later}},
		{method: "POST", path: keyPath(endless.ID) + "/rotate", body: object{}},
	} {
		c.key = k.Key
		p.do(c).want(403, auth.ErrGrantExceedsOwn)
	}
	p.do(call{method: "POST", path: "/api/v1/api-keys", key: k.Key, body: object{"name": "x", "expires_at": ends}}).want(201)
	p.do(call{method: "PATCH", path: keyPath(k.ID), token: token, body: object{"expires_at": later}}).want(200)
}

func TestAPIKeyRotation(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	first := p.addKey(token, object{})
	p.me(first.Key).want(200)
	second := p.rotateSecret(token, first.ID, object{"overlap_seconds": 3600})
	if second.Prefix != first.Prefix || second.Key == first.Key || second.OldSecretsUntil == nil || second.RotatedAt == nil || second.Version != 2 {
		t.Errorf("rotated %+v to %+v", first.APIKey, second.APIKey)
	}
	p.me(first.Key).want(200)
	p.me(second.Key).want(200)
	// Its answer was lost, so it is repeated. Nobody's secret is taken away.
	third := p.rotateSecret(token, first.ID, object{"overlap_seconds": 600})
	for _, k := range []madeKey{first, second, third} {
		p.me(k.Key).want(200)
	}
	if !third.OldSecretsUntil.Equal(*second.OldSecretsUntil) {
		t.Errorf("old secrets go on until %v, want %v", third.OldSecretsUntil, second.OldSecretsUntil)
	}
	resp, err := p.module.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: second.Key})
	if err != nil || resp.ExpiresAt == nil || resp.ExpiresAt.After(time.Now().Add(10*time.Minute)) {
		t.Errorf("an old secret ends at %v, %v", resp.ExpiresAt, err)
	}
	p.site.clock.forward(11 * time.Minute)
	p.me(first.Key).want(200)
	p.me(second.Key).want(401, auth.ErrAPIKeyExpired)
	p.site.clock.forward(time.Hour)
	token = p.admin().Access
	p.me(first.Key).want(401, auth.ErrAPIKeyExpired)
	p.me(third.Key).want(200)
	// Without an overlap all old secrets end at once.
	fourth := p.rotateSecret(token, first.ID, object{"overlap_seconds": 60})
	fifth := p.rotateSecret(token, first.ID, object{"overlap_seconds": 0})
	if fifth.OldSecretsUntil != nil {
		t.Errorf("old secrets go on until %v", fifth.OldSecretsUntil)
	}
	for _, k := range []madeKey{third, fourth} {
		p.me(k.Key).want(401, auth.ErrAPIKeyExpired)
	}
	p.me(fifth.Key).want(200)
	for range 5 {
		p.rotateSecret(token, first.ID, object{})
	}
	p.do(call{method: "POST", path: keyPath(first.ID) + "/rotate", token: token, body: object{}}).want(409, auth.ErrTooManySecrets)
	for _, overlap := range []any{-1, 2592001, "1h", 1.5} {
		p.do(call{method: "POST", path: keyPath(first.ID) + "/rotate", token: token, body: object{"overlap_seconds": overlap}}).want(422)
	}
	p.do(call{method: "POST", path: keyPath(first.ID) + "/rotate", token: token, header: map[string]string{"If-Match": `"1"`}, body: object{}}).want(412, auth.ErrVersion)
}

func TestAPIKeyChangesAndEnds(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	k := p.addKey(token, object{"permissions": []string{"user:read"}})
	p.do(call{method: "GET", path: "/api/v1/users", key: k.Key}).want(200)
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	a := p.do(call{method: "PATCH", path: keyPath(k.ID), token: token, header: map[string]string{"If-Match": `"1"`},
		body: object{"name": "other", "permissions": []string{"tenant:read"}, "scope": "tenant", "expires_at": ends}}).want(200)
	var changed auth.APIKey
	a.into(&changed)
	if changed.Name != "other" || changed.Version != 2 || a.header.Get("ETag") != `"2"` || changed.Scope != identity.ScopeTenant || !changed.ExpiresAt.Equal(ends) {
		t.Errorf("changed to %+v", changed)
	}
	p.do(call{method: "GET", path: "/api/v1/users", key: k.Key}).want(403)
	p.do(call{method: "GET", path: "/api/v1/tenants", key: k.Key}).want(200)
	p.do(call{method: "PATCH", path: keyPath(k.ID), token: token, header: map[string]string{"If-Match": `"1"`}, body: object{"name": "x"}}).want(412, auth.ErrVersion)
	for _, body := range []object{{"name": ""}, {"permissions": []string{"vm"}}, {"expires_at": time.Now().Add(-time.Hour)}, {"scope": "all"}, {"nonsense": 1}} {
		p.do(call{method: "PATCH", path: keyPath(k.ID), token: token, body: body}).want(422)
	}
	p.site.clock.forward(2 * time.Hour)
	token = p.admin().Access
	p.me(k.Key).want(401, auth.ErrAPIKeyExpired)
	p.do(call{method: "POST", path: keyPath(k.ID) + "/rotate", token: token, body: object{}}).want(422, auth.ErrInvalidAPIKeySpec)
	next := p.rotateSecret(token, k.ID, object{"expires_at": p.site.clock.now().Add(time.Hour)})
	p.me(next.Key).want(200)
	p.do(call{method: "DELETE", path: keyPath(k.ID), token: token}).want(204)
	p.me(next.Key).want(401, auth.ErrAPIKeyRevoked)
	p.do(call{method: "DELETE", path: keyPath(k.ID), token: token}).want(404, auth.ErrAPIKeyNotFound)
	p.do(call{method: "GET", path: keyPath(k.ID), token: token}).want(404, auth.ErrAPIKeyNotFound)
}

// Whose keys a caller sees and changes: their own, and those of accounts that they may administer and that hold no more than they do.
func TestAPIKeysOfOthers(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	root := p.admin().Access
	tenant, foreign := p.addTenant(root, "one"), p.addTenant(root, "two")
	ada, bob := p.addUser(root, "ada", auth.RoleUser, &tenant), p.addUser(root, "bob", auth.RoleUser, &tenant)
	p.addUser(root, "aud", auth.RoleAuditor, &tenant)
	p.addUser(root, "eve", auth.RoleUser, &foreign)
	p.addUser(root, "spy", auth.RoleAuditor, &foreign)
	adas, auditor, eve, spy := p.login("ada", goodPassword).Access, p.login("aud", goodPassword).Access, p.login("eve", goodPassword).Access, p.login("spy", goodPassword).Access
	k := p.addKey(p.login("bob", goodPassword).Access, object{})
	roots := p.addKey(root, object{})

	count := func(token, query string) int {
		t.Helper()
		var list struct{ Items []auth.APIKey }
		p.do(call{method: "GET", path: "/api/v1/api-keys" + query, token: token}).want(200).into(&list)
		return len(list.Items)
	}
	for _, c := range []struct {
		who, token, query string
		want              int
	}{
		{"ada", adas, "", 0}, {"ada", adas, "?user_id=" + bob.ID.String(), 0}, {"ada", adas, "?prefix=" + k.Prefix, 0},
		{"the auditor", auditor, "", 1}, {"the auditor", auditor, "?user_id=" + ada.ID.String(), 0}, {"the auditor", auditor, "?prefix=" + k.Prefix, 1},
		{"the spy", spy, "", 0}, {"the spy", spy, "?user_id=" + bob.ID.String(), 0}, {"the spy", spy, "?prefix=" + roots.Prefix, 0},
		{"root", root, "", 1}, {"root", root, "?tenant_id=" + tenant.ID.String(), 1}, {"root", root, "?tenant_id=all", 2},
	} {
		if got := count(c.token, c.query); got != c.want {
			t.Errorf("%s lists %d keys with %q, want %d", c.who, got, c.query, c.want)
		}
	}
	for _, token := range []string{adas, eve, spy} { // absent and foreign are the same
		for _, id := range []uuid.UUID{k.ID, uuid.New()} {
			for _, c := range []call{{method: "GET", path: keyPath(id)}, {method: "DELETE", path: keyPath(id)}, {method: "PATCH", path: keyPath(id), body: object{"name": "x"}},
				{method: "POST", path: keyPath(id) + "/rotate", body: object{}}} {
				c.token = token
				p.do(c).want(404, auth.ErrAPIKeyNotFound)
			}
		}
		p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: object{"name": "x", "user_id": roots.UserID}}).want(404, auth.ErrUserNotFound)
	}
	p.do(call{method: "GET", path: "/api/v1/api-keys?tenant_id=all", token: auditor}).want(403, auth.ErrPlatformOnly)
	p.do(call{method: "DELETE", path: keyPath(k.ID), token: auditor}).want(403, httpx.ErrForbidden)
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: auditor, body: object{"name": "x", "user_id": bob.ID}}).want(403, httpx.ErrForbidden)
	p.me(k.Key).want(200)
	p.do(call{method: "DELETE", path: keyPath(k.ID), token: root}).want(204)
	p.me(k.Key).want(401, auth.ErrAPIKeyRevoked)
	if made := p.addKey(root, object{"user_id": bob.ID, "permissions": []string{"vm:read"}}); made.UserID != bob.ID || made.TenantID != tenant.ID {
		t.Errorf("made %+v for %+v", made.APIKey, bob)
	}
}

// An administrator of a tenant cannot get at more than they hold by way of somebody else's keys.
func TestAPIKeysDoNotEscalate(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	root := p.admin().Access
	p.exec(`INSERT INTO auth.roles (id, tenant_id, name, scope) SELECT gen_random_uuid(), id, 'clerk', 'tenant' FROM auth.tenants`)
	p.exec(`INSERT INTO auth.permissions SELECT r.id, p FROM auth.roles r, unnest(ARRAY['user:read','user:write','api-key:read','api-key:write','vm:read']) p WHERE r.name = 'clerk'`)
	p.addUser(root, "clerk", "clerk", nil)
	low := p.addUser(root, "low", auth.RoleViewer, nil)
	clerk := p.login("clerk", goodPassword).Access
	strong := p.addKey(root, object{})
	lows := p.addKey(root, object{"user_id": low.ID, "permissions": []string{"vm:read"}})
	for _, k := range []madeKey{strong, lows} { // a viewer holds image:read, which the clerk lacks
		p.do(call{method: "GET", path: keyPath(k.ID), token: clerk}).want(200)
		p.do(call{method: "POST", path: keyPath(k.ID) + "/rotate", token: clerk, body: object{}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "DELETE", path: keyPath(k.ID), token: clerk}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "PATCH", path: keyPath(k.ID), token: clerk, body: object{"name": "x"}}).want(403, auth.ErrGrantExceedsOwn)
		p.do(call{method: "POST", path: "/api/v1/api-keys", token: clerk, body: object{"name": "x", "user_id": k.UserID, "permissions": []string{"vm:read"}}}).want(403, auth.ErrGrantExceedsOwn)
	}
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: clerk, body: object{"name": "x", "scope": "platform"}}).want(403, auth.ErrGrantExceedsOwn)
}

func TestAPIKeyNumberIsBounded(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	p.addKey(token, object{})
	p.exec(`INSERT INTO auth.api_keys (id, name, key_hash, user_id, created_at, prefix, scope, updated_at)
		SELECT gen_random_uuid(), 'x', 'h' || n, user_id, now(), 'p' || n, 'tenant', now() FROM auth.api_keys, generate_series(1, 99) n`)
	p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: object{"name": "x"}}).want(409, auth.ErrTooManyAPIKeys)
	var seen int
	for path := "/api/v1/api-keys?limit=30"; path != ""; {
		var list struct {
			Items []auth.APIKey
			Next  string `json:"next_cursor"`
		}
		p.do(call{method: "GET", path: path, token: token}).want(200).into(&list)
		seen += len(list.Items)
		if path = ""; list.Next != "" {
			path = "/api/v1/api-keys?limit=30&cursor=" + list.Next
		}
	}
	if seen != 100 {
		t.Errorf("saw %d keys in pages, want 100", seen)
	}
}

// Wrong keys slow down their address, and nobody else, and no key that is known to be good.
func TestWrongAPIKeysAreThrottled(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	good, unused := p.addKey(token, object{}), p.addKey(token, object{})
	p.me(good.Key).want(200)
	wrong := func(key, from string) answer {
		return p.do(call{method: "GET", path: "/api/v1/me", key: key, from: from})
	}
	for i := range 20 {
		key := "nonsense"
		if i%2 == 0 {
			key = apikey.Renew(good.Prefix).Text
		}
		wrong(key, "192.0.2.66").want(401, auth.ErrInvalidAPIKey)
	}
	throttled := false
	for range 5 {
		throttled = wrong(apikey.New().Text, "192.0.2.66").status == 429 || throttled
	}
	if !throttled {
		t.Error("nobody was throttled")
	}
	a := wrong(unused.Key, "192.0.2.66").want(429, auth.ErrThrottled)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wrong(good.Key, "192.0.2.66").want(200)
	wrong(unused.Key, "192.0.2.67").want(200)
}

// The last use is written without a request waiting for it, and what was not written yet when the module stops is written then.
func TestAPIKeyLastUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	token := p.admin().Access
	k := p.addKey(token, object{})
	show := func() (got auth.APIKey) {
		p.do(call{method: "GET", path: keyPath(k.ID), token: token}).want(200).into(&got)
		return got
	}
	if got := show(); got.LastUsedAt != nil {
		t.Errorf("a new key was used at %v", got.LastUsedAt)
	}
	p.do(call{method: "GET", path: "/api/v1/me", key: k.Key, from: "198.51.100.9"}).want(200)
	within(t, patience, "the first use is written", func() bool { return show().LastUsedAt != nil })
	if got := show(); got.LastUsedIP != "198.51.100.9" || got.Version != 1 {
		t.Errorf("used %+v", got)
	}
	s.clock.forward(time.Minute)
	p.do(call{method: "GET", path: "/api/v1/me", key: k.Key, from: "198.51.100.10"}).want(200)
	if err := p.module.Stop(contextForCleanup(t)); err != nil {
		t.Fatal(err)
	}
	p = s.start(t)
	token = p.admin().Access
	if got := show(); got.LastUsedIP != "198.51.100.10" {
		t.Errorf("after a stop: %+v", got)
	}
}

// An answer that holds a key is not kept for repetitions, so a second request makes a second key.
func TestAPIKeyAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	create := call{method: "POST", path: "/api/v1/api-keys", token: token, header: map[string]string{"Idempotency-Key": "once"}, body: object{"name": "ci"}}
	var first, second madeKey
	p.do(create).want(201).into(&first)
	p.do(create).want(201).into(&second)
	if first.Key == second.Key || first.ID == second.ID {
		t.Error("the answer was kept")
	}
	if got := p.queryText(`SELECT count(*)::text FROM auth.idempotency_keys k WHERE k::text LIKE '%' || $1 || '%'`, first.Prefix); got != "0" {
		t.Errorf("%s answers are kept", got)
	}
}

// Ended keys are forgotten, but not at once.
func TestEndedAPIKeysAreForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	token := p.admin().Access
	kept := p.addKey(token, object{})
	revoked, expired := p.addKey(token, object{}), p.addKey(token, object{"expires_at": time.Now().Add(time.Hour)})
	p.do(call{method: "DELETE", path: keyPath(revoked.ID), token: token}).want(204)
	s.clock.forward(29 * 24 * time.Hour)
	again := s.start(t) // a start forgets
	again.me(revoked.Key).want(401, auth.ErrAPIKeyRevoked)
	again.me(expired.Key).want(401, auth.ErrAPIKeyExpired)
	s.clock.forward(3 * 24 * time.Hour)
	last := s.start(t)
	within(t, patience, "ended keys are forgotten", func() bool { return p.queryText(`SELECT count(*)::text FROM auth.api_keys`) == "1" })
	last.me(revoked.Key).want(401, auth.ErrInvalidAPIKey)
	last.me(kept.Key).want(200)
}

// Hostile text in the header and in every field of a body is refused or kept as it is, and never a fault of the server.
func TestHostileAPIKeyText(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	for _, text := range []string{
		"'; DROP TABLE api_keys; --", "<script>alert(1)</script>", "${jndi:ldap://x}", "../../etc/passwd", strings.Repeat("a", 300), "\x00", "a\x00b", "\u202Eevil",
		"\U0001F680", "%00", "{{7*7}}", "\r\nX: y", "null", "nck_", "*", "vm:read ", "VM:read", "vm:read\n", "*:*:*", ":", "vm:", ":read",
	} {
		for field, value := range map[string]any{"name": text, "permissions": []string{text}, "scope": text, "user_id": text, "expires_at": text} {
			body := object{"name": "x"}
			body[field] = value
			if a := p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: body}); a.status != 201 && a.status != 400 && a.status != 422 {
				t.Errorf("%s %.60q: %d %s", field, text, a.status, a.body)
			}
		}
		if _, err := p.module.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: text, Client: netip.MustParseAddr("203.0.113.1")}); !errors.Is(err, auth.ErrInvalidAPIKey) && !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("key %.60q: %v", text, err)
		}
	}
	for _, bad := range []string{"vm:read ", "VM:read", "vm:read\n", "*:*:*", ":", "vm:", ":read", "public"} {
		p.do(call{method: "POST", path: "/api/v1/api-keys", token: token, body: object{"name": "x", "permissions": []string{bad}}}).want(422)
	}
}

func TestAPIKeyMetrics(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	token := p.admin().Access
	k := p.addKey(token, object{})
	for range 3 {
		p.me(k.Key).want(200)
	}
	p.me("nonsense").want(401)
	p.do(call{method: "DELETE", path: keyPath(k.ID), token: token}).want(204)
	for name, want := range map[string]float64{
		`novacron_auth_api_key_validations_total{result="ok"}`:                   3,
		`novacron_auth_api_key_validations_total{result="auth.invalid_api_key"}`: 1,
		`novacron_auth_api_key_changes_total{change="api_key.created"}`:          1,
		`novacron_auth_api_key_changes_total{change="api_key.revoked"}`:          1,
	} {
		if got := p.counter(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := p.counter(`novacron_auth_api_key_reads_total`); got < 1 || got > 3 {
		t.Errorf("the database was asked %v times", got)
	}
}

// Roles that are bound to a key widen its bounds where they are bound, and never beyond what its owner holds there.
func TestRolesOfAPIKeys(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t)
	root := p.admin().Access
	red, blue := p.addTenant(root, "red"), p.addTenant(root, "blue")
	p.addUser(root, "ada", auth.RoleUser, &red)
	adas := p.login("ada", goodPassword).Access
	empty, whole := p.addKey(adas, object{"permissions": []string{}}), p.addKey(adas, object{})
	may := func(key, permission string) bool {
		t.Helper()
		resp, err := p.module.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Principal.Allows(permission)
	}
	if may(empty.Key, "vm:read") {
		t.Error("a key without permissions may read machines")
	}
	p.addRole(root, red.ID, "starter", "vm:*", "user:write")
	bind := func(token string, key uuid.UUID, role string, tenant auth.Tenant) answer {
		return p.do(call{method: "POST", path: "/api/v1/role-bindings", token: token, body: object{"principal_kind": "api_key", "principal_id": key, "role": role}}.in(tenant.ID))
	}
	a := bind(root, empty.ID, "starter", red).want(201)
	var b auth.RoleBinding
	if a.into(&b); b.PrincipalKind != auth.PrincipalAPIKey || b.PrincipalName != "ci" {
		t.Errorf("bound %+v", b)
	}
	if !may(empty.Key, "vm:create") || may(empty.Key, "image:read") || may(empty.Key, "user:write") {
		t.Error("the role does not bound the key as it should")
	}
	bind(root, empty.ID, auth.RoleOperator, blue).want(201) // counts where its owner may do something, and that is nowhere in blue
	if _, err := p.module.Service().ValidateAPIKey(t.Context(), auth.ValidateAPIKeyRequest{Key: empty.Key, TenantID: blue.ID}); !errors.Is(err, auth.ErrNoRole) {
		t.Errorf("in a tenant where the owner has no role: %v", err)
	}
	bind(root, uuid.New(), "starter", red).want(404, auth.ErrPrincipalNotFound)
	bind(adas, empty.ID, auth.RoleUser, red).want(403)
	// A key that is bounded cannot use another one that has roles.
	narrow := p.addKey(adas, object{"permissions": []string{"api-key:*"}})
	p.do(call{method: "POST", path: keyPath(empty.ID) + "/rotate", key: narrow.Key, body: object{}}).want(403, auth.ErrGrantExceedsOwn)
	p.do(call{method: "POST", path: keyPath(empty.ID) + "/rotate", key: whole.Key, body: object{}}).want(200)
	p.do(call{method: "DELETE", path: "/api/v1/role-bindings/" + b.ID.String(), token: root}.in(red.ID)).want(204)
	if may(empty.Key, "vm:create") {
		t.Error("the role counts after it was taken away")
	}
	p.do(call{method: "DELETE", path: keyPath(empty.ID), token: adas}).want(204)
	if got := p.queryText(`SELECT count(*)::text FROM auth.role_bindings WHERE principal_kind = 'api_key'`); got != "0" {
		t.Errorf("%s bindings are left of a key that is gone", got)
	}
}
