package authmodule_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/trail"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

// record is an audit record as the API shows it.
type record struct {
	Seq        int64             `json:"seq"`
	ID         uuid.UUID         `json:"id"`
	Module     string            `json:"module"`
	Action     string            `json:"action"`
	Permission string            `json:"permission"`
	TargetKind string            `json:"target_kind"`
	TargetID   string            `json:"target_id"`
	Username   string            `json:"username"`
	UserID     uuid.UUID         `json:"user_id"`
	TenantID   uuid.UUID         `json:"tenant_id"`
	Address    string            `json:"address"`
	UserAgent  string            `json:"user_agent"`
	Result     string            `json:"result"`
	Status     int               `json:"status"`
	Code       string            `json:"code"`
	Count      int64             `json:"count"`
	Details    map[string]string `json:"details"`
	Hash       string            `json:"hash"`
}

type broken struct {
	Seq    int64  `json:"seq"`
	Reason string `json:"reason"`
}

type report struct {
	OK        bool    `json:"ok"`
	Complete  bool    `json:"complete"`
	Broken    *broken `json:"broken"`
	Verified  int64   `json:"verified"`
	Begins    int64   `json:"begins"`
	NextAfter int64   `json:"next_after"`
	Head      string  `json:"head"`
	Anchored  bool    `json:"anchored"`
}

func (p *process) search(token, query string) []record {
	p.t.Helper()
	var page struct{ Items []record }
	p.do(call{method: "GET", path: "/api/v1/audit/records?" + query, token: token}).want(200).into(&page)
	return page.Items
}

// recorded waits until a search finds something.
func (p *process) recorded(token, query string) []record {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if list := p.search(token, query); len(list) > 0 {
			return list
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no record for %s", query)
		}
		<-tick.C
	}
}

func (p *process) verify(token, query string) report {
	p.t.Helper()
	var r report
	p.do(call{method: "GET", path: "/api/v1/audit/verify?" + query, token: token}).want(200).into(&r)
	return r
}

func TestAuditRecordsCalls(t *testing.T) {
	p := newSite(t).start(t)
	admin := p.admin().Access
	tenant := p.addTenant(admin, "acme")
	user := p.addUser(admin, "ada", "user", &tenant)

	made := p.recorded(admin, "action=user.create&target="+user.ID.String())[0]
	if made.Result != event.AuditSuccess || made.Status != 201 || made.Username != "admin" || made.Permission != "user:write" || made.TargetKind != "user" ||
		made.Address != "192.0.2.1" || made.UserAgent != "test" || made.Module != "auth" || made.Details["fields"] != "username,password,role,tenant_id" {
		t.Errorf("got %+v", made)
	}
	if login := p.recorded(admin, "action=auth.login&user=admin")[0]; login.Result != event.AuditSuccess || login.UserID == uuid.Nil {
		t.Errorf("login: %+v", login)
	}

	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "ada", "password": "wrong"}, from: "192.0.2.9"}).want(401)
	failed := p.recorded(admin, "action=auth.login&result=refused&address=192.0.2.9")[0]
	if failed.Username != "ada" || failed.TenantID != tenant.ID || failed.Code != auth.ErrInvalidCredentials.Code {
		t.Errorf("failed login: %+v", failed)
	}
	p.do(call{method: "POST", path: "/auth/login", body: object{"username": "my-secret-password", "password": "x"}, from: "192.0.2.10"}).want(401)
	if nobody := p.recorded(admin, "action=auth.login&address=192.0.2.10")[0]; nobody.Username != "" || nobody.Details["account"] != "unknown" {
		t.Errorf("login of nobody: %+v", nobody)
	}

	ada := p.login("ada", goodPassword)
	p.do(call{method: "POST", path: "/api/v1/tenants", token: ada.Access, body: object{"name": "mine"}}).want(403)
	refused := p.recorded(admin, "user=ada&action=tenant.create")[0]
	if refused.Result != event.AuditRefused || refused.Details["missing_permission"] != "tenant:write" || refused.Code != httpx.ErrForbidden.Code {
		t.Errorf("refusal: %+v", refused)
	}
	p.do(call{method: "GET", path: "/api/v1/audit/records", token: ada.Access}).want(403)
	if read := p.recorded(admin, "user=ada&action=audit.list")[0]; read.Result != event.AuditRefused {
		t.Errorf("refused read: %+v", read)
	}

	p.do(call{method: "POST", path: "/auth/refresh", body: object{"refresh_token": ada.Refresh}}).want(200)
	p.do(call{method: "POST", path: "/auth/refresh", body: object{"refresh_token": ada.Refresh}}).want(401)
	if reuse := p.recorded(admin, "action=auth.refresh&result=refused")[0]; reuse.Details["token_reuse"] == "" || reuse.UserID != user.ID || reuse.TargetKind != "session" {
		t.Errorf("reuse: %+v", reuse)
	}

	// What is sent is nowhere to be found.
	for _, secret := range []string{goodPassword, "my-secret-password", ada.Refresh, ada.Access} {
		found := p.queryText(`SELECT count(*)::text FROM auth.audit_log l WHERE l::text LIKE '%' || $1 || '%'`, secret)
		if found != "0" {
			t.Errorf("%s records hold a secret", found)
		}
	}
	if got := p.search(admin, "action=user.*&result=bad"); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if p.counter(`novacron_audit_records_total{module="auth"}{result="success"}`) < 5 {
		t.Error("records are not counted")
	}
}

func TestAuditPagesAndFilters(t *testing.T) {
	p := newSite(t).start(t)
	admin := p.admin().Access
	for n := range 7 {
		p.addTenant(admin, fmt.Sprintf("tenant-%d", n))
	}
	for len(p.recorded(admin, "action=tenant.create")) < 7 {
	}
	var seen []int64
	path := "/api/v1/audit/records?action=tenant.create&limit=3"
	for cursor := ""; ; {
		var page struct {
			Items []record
			Next  string `json:"next_cursor"`
		}
		p.do(call{method: "GET", path: path + cursor, token: admin}).want(200).into(&page)
		for _, r := range page.Items {
			if len(seen) > 0 && r.Seq >= seen[len(seen)-1] {
				t.Fatalf("%d after %v", r.Seq, seen)
			}
			seen = append(seen, r.Seq)
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	if len(seen) != 7 {
		t.Errorf("%d records on all pages", len(seen))
	}
	one := p.search(admin, "action=tenant.create&limit=1")[0]
	p.do(call{method: "GET", path: "/api/v1/audit/records/" + one.ID.String(), token: admin}).want(200)
	p.do(call{method: "GET", path: "/api/v1/audit/records/" + uuid.NewString(), token: admin}).want(404, auth.ErrAuditNotFound)
	for _, query := range []string{"cursor=x", "cursor=cy0x", "result=good", "since=yesterday", "user=" + strings.Repeat("a", 300), "nonsense=1"} {
		if got := p.do(call{method: "GET", path: "/api/v1/audit/records?" + query, token: admin}); got.status != 422 {
			t.Errorf("%s: %d", query, got.status)
		}
		if query[0] == 'c' {
			continue
		}
		if got := p.do(call{method: "GET", path: "/api/v1/audit/export?" + query, token: admin}); got.status != 422 {
			t.Errorf("export %s: %d %s", query, got.status, got.body)
		}
	}
	future := url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))
	if got := p.search(admin, "since="+future); len(got) != 0 {
		t.Errorf("from the future: %+v", got)
	}
	if got := p.search(admin, "until="+future+"&user="+url.QueryEscape("' OR true --")); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestAuditorsSeeTheirTenantOnly(t *testing.T) {
	p := newSite(t).start(t)
	admin := p.admin().Access
	red, blue := p.addTenant(admin, "red"), p.addTenant(admin, "blue")
	p.addUser(admin, "rita", "auditor", &red)
	p.addUser(admin, "bob", "user", &blue)
	bob, rita := p.login("bob", goodPassword).Access, p.login("rita", goodPassword).Access
	p.do(call{method: "DELETE", path: "/api/v1/me/sessions", token: bob})
	theirs := p.recorded(admin, "user=bob")[0]
	own := p.recorded(rita, "user=rita")[0]
	if own.TenantID != red.ID {
		t.Errorf("got %+v", own)
	}
	for _, r := range p.search(rita, "") {
		if r.TenantID != red.ID {
			t.Errorf("rita sees %+v", r)
		}
	}
	if got := p.search(rita, "tenant_id="+blue.ID.String()); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	p.do(call{method: "GET", path: "/api/v1/audit/records/" + theirs.ID.String(), token: rita}).want(404, auth.ErrAuditNotFound)
	p.do(call{method: "GET", path: "/api/v1/audit/records/" + own.ID.String(), token: rita}).want(200)
	p.do(call{method: "GET", path: "/api/v1/audit/verify", token: rita}).want(403)
	export := string(p.do(call{method: "GET", path: "/api/v1/audit/export", token: rita}).want(200).body)
	if strings.Contains(export, blue.ID.String()) || !strings.Contains(export, own.ID.String()) {
		t.Errorf("the export is not her tenant's: %s", export)
	}
	if got := p.recorded(admin, "user=rita&action=audit.export"); got[0].Result != event.AuditSuccess {
		t.Errorf("the export left no record: %+v", got)
	}
}

func TestAuditExport(t *testing.T) {
	p := newSite(t).start(t)
	admin := p.admin().Access
	p.do(call{method: "POST", path: "/api/v1/tenants", token: admin, body: object{"name": "acme"}, header: map[string]string{"User-Agent": `=HYPERLINK("http://x","y"), "z"`}}).want(201)
	want := p.recorded(admin, "action=tenant.create")[0]

	text := p.do(call{method: "GET", path: "/api/v1/audit/export?action=tenant.create", token: admin}).want(200)
	var line event.AuditEntry
	if err := json.Unmarshal([]byte(strings.TrimSpace(string(text.body))), &line); err != nil || line.Seq != want.Seq || fmt.Sprintf("%x", []byte(line.Hash)) != want.Hash {
		t.Errorf("JSON lines: %s, %v", text.body, err)
	}
	table := p.do(call{method: "GET", path: "/api/v1/audit/export?action=tenant.create&format=csv", token: admin}).want(200)
	cells, err := csv.NewReader(strings.NewReader(string(table.body))).ReadAll()
	if err != nil || len(cells) != 2 {
		t.Fatalf("CSV: %s, %v", table.body, err)
	}
	for i, name := range cells[0] {
		if name == "user_agent" && cells[1][i] != `'=HYPERLINK("http://x","y"), "z"` {
			t.Errorf("the formula goes out as %q", cells[1][i])
		}
	}
}

// trail gives the trail of a module that does not run.
func (s *site) trail(t *testing.T) *trail.Trail {
	t.Helper()
	pool, err := pg.Open(t.Context(), pg.Config{URL: s.cfg.DatabaseURL, Schema: "auth", MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	st := store.New()
	st.Attach(pool)
	tr, err := trail.New(trail.Config{Dir: filepath.Join(s.cfg.DataDir, "audit")}, trail.Deps{Store: st, Bus: s.bus, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// tamper works on the trail as one could who owns the database.
func (p *process) tamper(statements ...string) {
	p.t.Helper()
	p.withConn(func(conn *pgx.Conn) error {
		for _, sql := range append([]string{"ALTER TABLE auth.audit_log DISABLE TRIGGER audit_log_guard"}, append(statements, "ALTER TABLE auth.audit_log ENABLE TRIGGER audit_log_guard")...) {
			if _, err := conn.Exec(p.t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
}

func TestVerifyFindsTampering(t *testing.T) {
	site := newSite(t)
	p := site.start(t)
	admin := p.admin().Access
	for n := range 8 {
		p.addTenant(admin, fmt.Sprintf("tenant-%d", n))
	}
	for len(p.recorded(admin, "action=tenant.create")) < 8 {
	}
	if r := p.verify(admin, ""); !r.OK || !r.Complete || r.Verified < 9 {
		t.Fatalf("before: %+v", r)
	}
	head := p.verify(admin, "").Head
	if r := p.verify(admin, "expect="+head); !r.OK {
		t.Fatalf("the head that it gave: %+v", r)
	}
	if r := p.verify(admin, "expect=2:"+strings.Repeat("0", 64)); r.OK || r.Broken.Seq != 2 {
		t.Errorf("another head: %+v", r)
	}
	if r := p.verify(admin, "after=3&limit=2"); !r.OK || r.Complete || r.NextAfter != 5 || r.Verified != 2 {
		t.Errorf("a part: %+v", r)
	}
	// Signed when the process stops.
	if err := p.module.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.tamper("CREATE TABLE auth.saved AS SELECT * FROM auth.audit_log", "CREATE TABLE auth.saved_checkpoints AS SELECT * FROM auth.audit_checkpoints")
	offline := site.trail(t)
	if r, err := offline.Verify(t.Context(), 0, 1000, nil); err != nil || !r.OK || !r.Anchored {
		t.Fatalf("untouched: %+v, %v", r, err)
	}
	for name, c := range map[string]struct {
		sql  string
		want int64
	}{
		"changed":   {"UPDATE auth.audit_log SET username = 'eve' WHERE seq = 4", 4},
		"time":      {"UPDATE auth.audit_log SET time = time + interval '1 microsecond' WHERE seq = 4", 4},
		"details":   {"UPDATE auth.audit_log SET details = '{\"fields\":\"nothing\"}' WHERE seq = 4", 4},
		"removed":   {"DELETE FROM auth.audit_log WHERE seq = 4", 4},
		"beginning": {"DELETE FROM auth.audit_log WHERE seq < 4", 1},
		"inserted": {`UPDATE auth.audit_log SET seq = seq + 1000 WHERE seq > 4;
			INSERT INTO auth.audit_log SELECT (s).* FROM (SELECT jsonb_populate_record(s, jsonb_build_object('seq', 5, 'id', gen_random_uuid())) AS s
				FROM auth.audit_log s WHERE seq = 4) x;
			UPDATE auth.audit_log SET seq = seq - 999 WHERE seq > 1000`, 5},
		"moved":                   {"UPDATE auth.audit_log SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END WHERE seq IN (4, 5); UPDATE auth.audit_log SET seq = -seq WHERE seq < 0", 4},
		"end":                     {"DELETE FROM auth.audit_log WHERE seq > 6", 7},
		"end and what was signed": {"DELETE FROM auth.audit_log WHERE seq > 6; DELETE FROM auth.audit_checkpoints", 7},
		"all":                     {"DELETE FROM auth.audit_log; DELETE FROM auth.audit_checkpoints", 1},
		"beginning, with a false permit": {`DELETE FROM auth.audit_log WHERE seq < 4;
			INSERT INTO auth.audit_checkpoints SELECT 3, 'prune', prev_hash, now(), (SELECT key_id FROM auth.audit_checkpoints LIMIT 1), (SELECT signature FROM auth.audit_checkpoints LIMIT 1)
				FROM auth.audit_log WHERE seq = 4`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			defer func() {
				p.tamper("DELETE FROM auth.audit_log", "INSERT INTO auth.audit_log SELECT * FROM auth.saved", "DELETE FROM auth.audit_checkpoints", "INSERT INTO auth.audit_checkpoints SELECT * FROM auth.saved_checkpoints")
			}()
			p.tamper(strings.Split(c.sql, ";")...)
			r, err := offline.Verify(t.Context(), 0, 1000, nil)
			if err != nil || r.OK || r.Broken == nil || r.Broken.Seq != c.want {
				t.Errorf("got %+v, %v, want row %d", r, err, c.want)
			}
		})
	}
	p.t = t
	// The guard stops what goes through the module's own connection.
	for _, sql := range []string{"UPDATE auth.audit_log SET username = 'eve'", "DELETE FROM auth.audit_log", "TRUNCATE auth.audit_log"} {
		p.withConn(func(conn *pgx.Conn) error {
			if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "never changed") {
				t.Errorf("%s: %v", sql, err)
			}
			return nil
		})
	}
	// A trail whose end was cut off is not signed anew, so the proof stays.
	p.tamper("DELETE FROM auth.audit_log WHERE seq > 6", "DELETE FROM auth.audit_checkpoints")
	again := site.start(t)
	token := again.admin().Access
	again.addTenant(token, "late")
	again.recorded(token, "action=tenant.create&user=admin&limit=1")
	if r := again.verify(token, ""); r.OK || r.Broken == nil {
		t.Errorf("after new rows: %+v", r)
	}
}

func TestAuditRetention(t *testing.T) {
	site := newSite(t)
	site.cfg.AuditRetention = 24 * time.Hour
	p := site.start(t)
	admin := p.admin().Access
	for n := range 5 {
		p.addTenant(admin, fmt.Sprintf("old-%d", n))
	}
	for len(p.recorded(admin, "action=tenant.create")) < 5 {
	}
	site.clock.forward(25 * time.Hour)
	p.admin() // something new, which is also what wakes the trail
	deadline := time.Now().Add(30 * time.Second)
	for p.queryText("SELECT count(*)::text FROM auth.audit_log WHERE action = 'tenant.create'") != "0" {
		if time.Now().After(deadline) {
			t.Fatal("old records stay")
		}
		site.clock.forward(2 * time.Hour) // the newest row always stays until there is a newer one
		p.admin()
	}
	admin = p.admin().Access
	r := p.verify(admin, "")
	if !r.OK || r.Begins < 5 {
		t.Errorf("after pruning: %+v", r)
	}
	p.exec("UPDATE auth.audit_checkpoints SET seq = seq - 1 WHERE kind = 'prune'")
	if r := p.verify(admin, ""); r.OK {
		t.Errorf("with a false beginning: %+v", r)
	}
}

// Each record is chained once and told once, whatever restarts in between.
func TestAuditChainIsExactlyOnce(t *testing.T) {
	site := newSite(t)
	p := site.start(t)
	admin := p.admin().Access
	p.addTenant(admin, "first")
	p.recorded(admin, "action=tenant.create")
	// The trail forgets how far it was, and so takes everything again.
	p.exec("UPDATE auth.audit_sources SET seq = 0")
	second := site.start(t) // another process beside the first
	second.addTenant(admin, "second")
	for len(p.recorded(admin, "action=tenant.create")) < 2 {
	}
	if got := p.search(admin, "action=tenant.create"); len(got) != 2 {
		t.Errorf("%d records", len(got))
	}
	if r := second.verify(admin, ""); !r.OK {
		t.Errorf("got %+v", r)
	}
	reply, err := outbox.Replay(t.Context(), site.bus, outbox.ReplaySubject(bus.SubjectAuditEvents), outbox.ReplayRequest{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, e := range reply.Events {
		var entry event.AuditEntry
		if err := json.Unmarshal(e.Payload, &entry); err != nil || seen[entry.Seq] {
			t.Fatalf("%s: %v", e.Payload, err)
		}
		seen[entry.Seq] = true
	}
	for n := int64(1); n <= int64(len(seen)); n++ {
		if !seen[n] {
			t.Errorf("row %d was not published", n)
		}
	}
}

// Whoever floods the login fills neither the log nor the disk: most refusals are counted.
func TestRefusalsAreBounded(t *testing.T) {
	p := newSite(t).start(t)
	admin := p.admin().Access
	const flood = 60
	for range flood {
		p.do(call{method: "POST", path: "/api/v1/tenants", from: "198.51.100.7", body: object{"name": "x"}}).want(401)
	}
	p.site.clock.forward(2 * time.Minute)
	counted := p.recorded(admin, "action="+audit.ActionDropped+"&address=198.51.100.7")
	single := p.search(admin, "action=tenant.create&address=198.51.100.7&limit=500")
	if len(counted) != 1 || int(counted[0].Count)+len(single) != flood || len(single) > 30 {
		t.Errorf("%d single records, %+v", len(single), counted)
	}
}

// A module without a database hands its records over.
func TestRecordsOfOthers(t *testing.T) {
	site := newSite(t)
	p := site.start(t)
	rec, err := audit.New(audit.Config{Module: "gateway", Node: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	rec.Start(audit.Remote{Bus: site.bus})
	defer rec.Stop()
	rec.Note(event.Audit{Action: "vm.list", Result: event.AuditRefused, Status: http.StatusUnauthorized, Address: "192.0.2.77"})
	admin := p.admin().Access
	if got := p.recorded(admin, "address=192.0.2.77")[0]; got.Module != "gateway" || got.Action != "vm.list" {
		t.Errorf("got %+v", got)
	}
	_, done, err := rec.Begin(t.Context(), event.Audit{Action: "thing.make", Address: "192.0.2.78"})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.queryText("SELECT count(*)::text FROM auth.audit_intents"); n != "1" {
		t.Errorf("%s intents", n)
	}
	done.End(t.Context(), 201, "")
	if got := p.recorded(admin, "address=192.0.2.78")[0]; got.Result != event.AuditSuccess {
		t.Errorf("got %+v", got)
	}
}

// What a process that was killed left unfinished becomes a record that says so.
func TestUnfinishedCallsAreRecorded(t *testing.T) {
	site := newSite(t)
	p := site.start(t)
	admin := p.admin().Access
	id := uuid.New()
	text, err := json.Marshal(event.Audit{ID: id, Time: time.Now(), Module: "auth", Action: "tenant.create", Result: event.AuditUnknown, Address: "192.0.2.66"})
	if err != nil {
		t.Fatal(err)
	}
	p.exec("INSERT INTO auth.audit_intents VALUES ($1, $2, now() - interval '1 second')", id, text)
	site.start(t) // which looks at once
	if got := p.recorded(admin, "address=192.0.2.66")[0]; got.Result != event.AuditUnknown || got.ID != id {
		t.Errorf("got %+v", got)
	}
}
