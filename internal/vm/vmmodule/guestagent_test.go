package vmmodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// code sends a request and gives status and code of the problem that it must be answered with.
func (w *world) code(method, path string, body any, headers ...string) string {
	w.t.Helper()
	rec := w.do(method, path, body, headers...)
	var p errs.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code < 400 {
		w.t.Fatalf("%s %s: no problem but %d %s", method, path, rec.Code, rec.Body)
	}
	return fmt.Sprint(rec.Code, " ", p.Code)
}

func (w *world) exec(id uuid.UUID, body map[string]any) vm.GuestExec {
	w.t.Helper()
	return decode[vm.GuestExec](w.t, w.do(http.MethodPost, "/api/v1/vms/"+id.String()+"/guest/exec?wait=60s", body), http.StatusOK)
}

// TestGuestAgent asks good agents, whose guest is this machine, then those that are absent, hang or lie.
func TestGuestAgent(t *testing.T) {
	var url string
	w := newWorldWith(t, func(_ *world, cfg *Config) { cfg.agentPatience, url = 2*time.Second, cfg.DatabaseURL })
	image := w.image()
	id := w.create("web-1", image.ID).TargetID
	base := "/api/v1/vms/" + id.String() + "/guest"
	if got := w.code(http.MethodGet, base, nil); got != "409 vm.agent_unavailable" {
		t.Errorf("without an agent: %s", got)
	}
	w.driver.SetAgent(id, fake.GoodAgent)

	t.Run("info", func(t *testing.T) {
		info := decode[vm.GuestInfo](t, w.do(http.MethodGet, base, nil), http.StatusOK)
		if info.AgentVersion != "7.2.0" || info.Hostname != "faked" || info.System.ID != "fake" || len(info.Commands) != 4 || info.Timezone.OffsetSeconds != 3600 ||
			len(info.Users) != 1 || info.Users[0].Name != "ada" || len(info.Filesystems) != 1 || *info.Filesystems[0].UsedBytes != 250 ||
			len(info.Interfaces) != 1 || info.Interfaces[0].Addresses[0] != "10.0.0.5/24" || len(info.Missing) != 0 {
			t.Errorf("info is %+v", info)
		}
	})
	t.Run("exec", func(t *testing.T) {
		r := w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", `cat; echo "$GREETING $1" >&2; exit 7`, "x", "a  b"}, "env": map[string]string{"GREETING": "hello;", "n": "-1", "t": "x", "rc": "9"},
			"stdin": []byte("from outside")})
		if r.ExitCode == nil || *r.ExitCode != 7 || string(r.Stdout) != "from outside" || string(r.Stderr) != "hello; a  b\n" || r.TimedOut || r.StdoutTruncated {
			t.Errorf("it ended as %+v", r)
		}
		if r := w.exec(id, map[string]any{"command": "/no/such/program"}); r.ExitCode == nil || *r.ExitCode != 127 || !strings.Contains(string(r.Stderr), "no/such") {
			t.Errorf("a program that is not there ended as %+v: %s", r, r.Stderr)
		}
		r = w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", `head -c 700000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3`}})
		if r.ExitCode == nil || *r.ExitCode != 3 || len(r.Stdout) != nodeapi.GuestOutputMax || !r.StdoutTruncated || len(r.Stderr) != nodeapi.GuestOutputMax || !r.StderrTruncated {
			t.Errorf("much output ended as %v with %d and %d bytes", r.ExitCode, len(r.Stdout), len(r.Stderr))
		}
		r = decode[vm.GuestExec](t, w.do(http.MethodPost, base+"/exec?wait=1s", map[string]any{"command": "sh", "args": []string{"-c", "echo first; sleep 600"}}), http.StatusOK)
		if !r.TimedOut || r.ExitCode != nil || string(r.Stdout) != "first\n" {
			t.Errorf("a long program ended as %+v", r)
		}
		for name, body := range map[string]map[string]any{
			"a name that is none": {"command": "true", "env": map[string]string{"A B": ""}}, "NUL": {"command": "true", "args": []string{"a\x00b"}},
			"too long": {"command": "true", "args": []string{strings.Repeat("x", nodeapi.GuestArgsMax)}}, "no command": {},
			"too much input": {"command": "true", "stdin": make([]byte, nodeapi.GuestStdinMax+1)},
		} {
			if got := w.code(http.MethodPost, base+"/exec", body); !strings.HasPrefix(got, "422 ") {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "a file; rm -rf x")
		url := base + "/files?path=" + strings.NewReplacer(" ", "%20", ";", "%3B").Replace(path)
		content := bytes.Repeat([]byte("0123456789abcdef\n"), 100_000) // more than three chunks
		put := func(query string, content []byte) vm.GuestFile {
			t.Helper()
			return decode[vm.GuestFile](t, w.do(http.MethodPut, url+query, content, "Content-Type", "application/octet-stream"), http.StatusOK)
		}
		if f := put("&mode=0600", content); f.SizeBytes != int64(len(content)) || f.Path != path {
			t.Errorf("pushed %+v", f)
		}
		if got := w.do(http.MethodGet, url, nil); got.Code != http.StatusOK || !bytes.Equal(got.Body.Bytes(), content) || got.Header().Get("Content-Length") != fmt.Sprint(len(content)) {
			t.Errorf("pulled %d with %d bytes", got.Code, got.Body.Len())
		}
		before, err := os.Stat(path)
		if err != nil || before.Mode().Perm() != 0o600 {
			t.Fatalf("it has the mode %v, %v", before, err)
		}
		put("", []byte("short\n")) // the same file with other content
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.Mode().Perm() != 0o600 || after.Size() != 6 {
			t.Errorf("it became %v, %v", after, err)
		}
		put("", nil)
		if got := w.do(http.MethodGet, url, nil); got.Code != http.StatusOK || got.Body.Len() != 0 {
			t.Errorf("an empty file was answered with %d, %q", got.Code, got.Body)
		}
		if got := w.do(http.MethodGet, base+"/files?path=/proc/version", nil); got.Code != http.StatusOK || !strings.HasPrefix(got.Body.String(), "Linux version") {
			t.Errorf("a file that does not tell its size was answered with %d, %q", got.Code, got.Body)
		}
		rec := w.doOn(w.vm.Handler(), w.tenant, http.MethodPut, url, cutOff{}, "Content-Type", "application/octet-stream")
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "guest.file_incomplete") {
			t.Errorf("a broken upload: %d %s", rec.Code, rec.Body)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the file there is %v, %v", entries, err)
		}
		for query, want := range map[string]string{"/files": "422 guest.invalid", "/files?path=relative": "422 guest.invalid", "/files?path=/no/such/file": "409 vm.agent_refused",
			"/files?path=/dev": "409 vm.agent_refused"} {
			if got := w.code(http.MethodGet, base+query, nil); got != want {
				t.Errorf("GET %s: %s", query, got)
			}
		}
		for query, want := range map[string]string{"&mode=rw": "422 guest.invalid", "&mode=99999": "422 guest.invalid"} {
			if got := w.code(http.MethodPut, url+query, []byte("x")); got != want {
				t.Errorf("PUT %s: %s", query, got)
			}
		}
		if got := w.code(http.MethodPut, base+"/files?path="+dir, []byte("x")); got != "409 vm.agent_refused" {
			t.Errorf("a folder: %s", got)
		}
	})
	t.Run("password and time", func(t *testing.T) {
		if rec := w.do(http.MethodPost, base+"/password", map[string]any{"username": "root", "password": "new one"}); rec.Code != http.StatusNoContent {
			t.Errorf("password: %d %s", rec.Code, rec.Body)
		}
		for _, body := range []map[string]any{{"username": "a:b", "password": "secret-1"}, {"username": "a", "password": "secret-1\nroot:x"}, {"username": "a"}} {
			if rec := w.do(http.MethodPost, base+"/password", body); rec.Code != http.StatusUnprocessableEntity || strings.Contains(rec.Body.String(), "secret-1") {
				t.Errorf("%v: %d %s", body, rec.Code, rec.Body)
			}
		}
		if got := decode[vm.GuestTime](t, w.do(http.MethodPost, base+"/time", nil), http.StatusOK); got.OffsetMS > -3500_000 || got.OffsetMS < -3700_000 {
			t.Errorf("the guest's clock was off by %+v", got)
		}
	})
	t.Run("who may not", func(t *testing.T) {
		viewer, stranger := w.tenant, principal("*")
		viewer.Permissions = []string{"vm:*", "guest:read"}
		own := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Permissions: []string{"vm:read", "guest:*:own"}, Scope: identity.ScopeTenant}
		for _, c := range []struct {
			method, path string
			body         any
		}{{http.MethodPost, "/exec", map[string]any{"command": "true"}}, {http.MethodGet, "/files?path=/etc/hostname", nil}, {http.MethodPut, "/files?path=/tmp/x", "x"},
			{http.MethodPost, "/password", map[string]any{"username": "a", "password": "b"}}, {http.MethodPost, "/time", nil}} {
			if rec := w.doAs(viewer, c.method, base+c.path, c.body); rec.Code != http.StatusForbidden {
				t.Errorf("with vm:* alone, %s is answered with %d", c.path, rec.Code)
			}
			if rec := w.doAs(own, c.method, base+c.path, c.body); rec.Code != http.StatusForbidden {
				t.Errorf("on another's machine, %s is answered with %d", c.path, rec.Code)
			}
			if rec := w.doAs(stranger, c.method, base+c.path, c.body); rec.Code != http.StatusNotFound {
				t.Errorf("to a stranger, %s is answered with %d", c.path, rec.Code)
			}
		}
	})
	t.Run("audit", func(t *testing.T) { auditOfGuests(t, url, id) })
	t.Run("lies", func(t *testing.T) { w.lyingAgents(t, id) })
	t.Run("hangs", func(t *testing.T) { w.hungAgent(t, id, w.create("web-2", image.ID).TargetID) })
}

// cutOff is a body that breaks off.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, errors.New("the client has gone") }

// lyingAgents answer what no agent would. Each is a clear problem, in which nothing of the answer is quoted.
func (w *world) lyingAgents(t *testing.T, id uuid.UUID) {
	base := "/api/v1/vms/" + id.String() + "/guest"
	ask := []struct {
		method, path string
		body         any
	}{{http.MethodGet, "", nil}, {http.MethodPost, "/exec", map[string]any{"command": "true"}}, {http.MethodGet, "/files?path=/x", nil},
		{http.MethodPut, "/files?path=/x", "content"}, {http.MethodPost, "/time", nil}}
	huge := []byte(`{"return":"` + strings.Repeat("bomb", 2<<20) + `"}`)
	deep := []byte(`{"return":` + strings.Repeat("[", 200_000))
	for name, answer := range map[string]string{
		"not JSON": "bomb", "empty": "", "null": "null", "no return": "{}", "null return": `{"return":null}`, "a number": `{"return":-5}`, "a text": `{"return":"bomb"}`,
		"a list": `{"return":[1,2,3]}`, "other types": `{"return":{"pid":"bomb","exited":"yes","version":[],"count":"x"}}`, "huge": string(huge), "deep": string(deep),
		"invalid base64":  `{"return":{"pid":1,"exited":true,"exitcode":0,"out-data":"!!bomb!!","count":3,"buf-b64":"!!bomb!!"}}`,
		"more than asked": `{"return":{"pid":1,"exited":true,"count":99999999,"buf-b64":"QQ==","position":9223372036854775807}}`,
		"negative":        `{"return":{"pid":-1,"exited":true,"count":-1,"buf-b64":"QQ==","position":-4}}`,
	} {
		w.driver.SetAgentAnswer(id, func(string, json.RawMessage) ([]byte, error) { return []byte(answer), nil })
		for _, a := range ask {
			rec := w.do(a.method, base+a.path, a.body)
			if rec.Code >= 500 || strings.Contains(rec.Body.String(), "bomb") || rec.Body.Len() > 10_000 {
				t.Errorf("%s, %s %s: %d %.200s", name, a.method, a.path, rec.Code, rec.Body)
			}
			if strings.HasPrefix(a.path, "/files") && rec.Code < 400 {
				t.Errorf("%s: a file came out of nothing: %d %.200s", name, rec.Code, rec.Body)
			}
		}
	}
	// A refusal in the agent's own words, which must not steer a terminal or fill a page.
	w.driver.SetAgentAnswer(id, func(string, json.RawMessage) ([]byte, error) {
		return nil, &driver.AgentRefusal{Message: "no \x1b[31m\n\u202e" + strings.Repeat("x", 100_000)}
	})
	for _, a := range ask {
		rec := w.do(a.method, base+a.path, a.body)
		var p errs.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code != "vm.agent_refused" || len(p.Detail) > 600 || strings.ContainsAny(p.Detail, "\x1b\n\u202e") {
			t.Errorf("%s %s: %d %.300q", a.method, a.path, rec.Code, rec.Body)
		}
	}
	// An endless file, and a program that never ends.
	w.driver.SetAgentAnswer(id, func(command string, _ json.RawMessage) ([]byte, error) {
		switch command {
		case "guest-file-open":
			return []byte(`{"return":1}`), nil
		case "guest-file-seek":
			return []byte(`{"return":{"position":0,"eof":false}}`), nil
		case "guest-file-read":
			return []byte(`{"return":{"count":3,"buf-b64":"QUFB","eof":false}}`), nil
		}
		return []byte(`{"return":{"pid":1,"exited":false}}`), nil
	})
	if got := w.code(http.MethodGet, base+"/files?path=/dev/zero", nil); got != "413 guest.file_too_large" {
		t.Errorf("an endless file: %s", got)
	}
	if r := decode[vm.GuestExec](t, w.do(http.MethodPost, base+"/exec?wait=1s", map[string]any{"command": "true"}), http.StatusOK); !r.TimedOut {
		t.Errorf("a program without an end ended as %+v", r)
	}
	w.driver.SetAgentAnswer(id, nil)
}

// hungAgent: nobody else waits for it, nothing is locked by it, and it answers again when it does.
func (w *world) hungAgent(t *testing.T, id, other uuid.UUID) {
	base := "/api/v1/vms/" + id.String() + "/guest"
	w.driver.SetAgent(other, fake.GoodAgent)
	w.driver.SetAgent(id, fake.HungAgent)
	var asking sync.WaitGroup
	answers := make(chan string, 40)
	for range cap(answers) {
		asking.Go(func() { answers <- w.code(http.MethodGet, base, nil) })
	}
	// All the while another guest is asked, and the one that hangs is paused, resumed, renamed, stopped and started.
	if r := w.exec(other, map[string]any{"command": "true"}); r.ExitCode == nil || *r.ExitCode != 0 {
		t.Errorf("beside a hung agent a program ended as %+v", r)
	}
	for _, verb := range []string{"pause", "resume", "restart"} {
		if done := w.act(id, verb, nil); done.Status != "succeeded" {
			t.Errorf("%s with a hung agent ended as %+v", verb, done)
		}
	}
	asking.Wait()
	close(answers)
	seen := map[string]int{}
	for a := range answers {
		seen[a]++
	}
	// While it was paused or off, there was the wrong state.
	if seen["409 vm.agent_unavailable"] == 0 || seen["409 vm.agent_unavailable"]+seen["429 vm.agent_busy"]+seen["409 vm.wrong_state"] != cap(answers) {
		t.Errorf("it was answered with %v", seen)
	}
	w.driver.SetAgentAnswer(id, nil)
	w.eventually("it answers again", func() bool { return w.do(http.MethodGet, base, nil).Code == http.StatusOK })
}

// TestMetrics: guests are measured in one call, told on the bus, and shown while they are on.
func TestMetrics(t *testing.T) {
	w := newWorldWith(t, func(_ *world, cfg *Config) { cfg.MetricsInterval = time.Second })
	id := w.create("web-1", w.image().ID).TargetID
	path := "/api/v1/vms/" + id.String() + "/metrics"
	sent, usable, available := int64(77), int64(250), int64(1000)
	w.driver.SetStats(id, driver.Stats{VCPUs: 1, NetSent: &sent, Available: &available, Usable: &usable})
	var m vm.Metrics
	w.eventually("a sample with usage of the processor", func() bool {
		rec := w.do(http.MethodGet, path, nil)
		if rec.Code == http.StatusConflict && strings.Contains(rec.Body.String(), "vm.no_metrics") {
			return false
		}
		m = decode[vm.Metrics](t, rec, http.StatusOK)
		return m.CPUUsage != nil && m.NetworkBytesSent != nil && *m.NetworkBytesSent == 77
	})
	if m.VMID != id || *m.CPUUsage <= 0 || *m.CPUUsage > 100 || m.MemoryUsage == nil || *m.MemoryUsage != 75 || m.DiskReadBytes != nil || m.Time.IsZero() || m.CPUSeconds <= 0 {
		t.Errorf("measured %+v", m)
	}
	if rec := w.doAs(principal("*"), http.MethodGet, path, nil); rec.Code != http.StatusNotFound {
		t.Errorf("to a stranger: %d", rec.Code)
	}
	w.act(id, "stop", nil)
	if got := w.code(http.MethodGet, path, nil); got != "409 vm.wrong_state" {
		t.Errorf("of one that is off: %s", got)
	}
}

// auditOfGuests: what was done in a guest is in the trail by its program, path or user, and without anything that may be a secret.
func auditOfGuests(t *testing.T, url string, id uuid.UUID) {
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), `SELECT payload FROM vm.outbox WHERE subject = $1 AND payload->>'action' LIKE 'vm-guest.%'`, bus.SubjectAuditRecords)
	if err != nil {
		t.Fatal(err)
	}
	records, err := pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]event.Audit{}
	for _, raw := range records {
		var e event.Audit
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		if e.Result == event.AuditSuccess && e.TargetID == id.String() {
			seen[e.Action+" "+e.Details["command"]+e.Details["path"]+e.Details["username"]+" "+e.Details["exit_code"]] = e
		}
		for _, secret := range []string{"GREETING", "hello;", "from outside", "new one", "secret-1", "a  b"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%q is in the trail: %s", secret, raw)
			}
		}
	}
	for _, want := range []string{"vm-guest.exec sh 7", "vm-guest.pull /proc/version ", "vm-guest.password root ", "vm-guest.time  "} {
		if _, ok := seen[want]; !ok {
			t.Errorf("%q is not in the trail: %v", want, slices.Collect(maps.Keys(seen)))
		}
	}
}
