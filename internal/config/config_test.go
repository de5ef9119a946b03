package config_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// write makes a configuration file.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "novacron.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func load(t *testing.T, text string, args ...string) *config.Loaded {
	t.Helper()
	l, err := config.Load(config.Options{File: write(t, text), Flags: flags(t, args...)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaultsAreValid(t *testing.T) {
	l := load(t, "")
	if diff := cmp.Diff(config.Default(), l.Config); diff != "" {
		t.Error(diff)
	}
	for key, o := range l.Origins {
		if o.Source != config.SourceDefault {
			t.Errorf("%s comes from %+v", key, o)
		}
	}
	if diff := cmp.Diff(config.ModuleNames(), l.Config.Enabled()); diff != "" {
		t.Error(diff)
	}
}

func TestPrecedence(t *testing.T) {
	file := "data_dir: /file\nhttp: {listen: '10.0.0.1:1', idle_timeout: 7s}\nmodules: [auth]\n"
	t.Setenv("NOVACRON_HTTP_LISTEN", "10.0.0.2:2")
	t.Setenv("NOVACRON_MODULES", "auth,vm, scheduler")
	t.Setenv("NOVACRON_LOG_LEVEL", "")
	l := load(t, file, "--modules", "gateway,auth")
	c := l.Config
	if c.DataDir != "/file" || c.HTTP.Listen != "10.0.0.2:2" || c.HTTP.IdleTimeout != 7*time.Second || c.Log.Level != "info" {
		t.Errorf("got %+v", c)
	}
	if diff := cmp.Diff([]string{"gateway", "auth"}, c.Modules); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]config.Origin{
		"data_dir": {Source: config.SourceFile, Detail: l.File + ":1"}, "http.listen": {Source: config.SourceEnv, Detail: "NOVACRON_HTTP_LISTEN"},
		"http.idle_timeout": {Source: config.SourceFile, Detail: l.File + ":2"}, "modules": {Source: config.SourceFlag, Detail: "--modules"},
		"log.level": {Source: config.SourceDefault},
	} {
		if l.Origins[key] != want {
			t.Errorf("%s comes from %+v, want %+v", key, l.Origins[key], want)
		}
	}
	l = load(t, file)
	if diff := cmp.Diff([]string{"auth", "vm", "scheduler"}, l.Config.Modules); diff != "" {
		t.Error(diff)
	}
}

// TestEveryKeyIsReadFromTheEnvironment also covers the names that scripts rely on.
func TestEveryKeyIsReadFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"NOVACRON_DATA_DIR": "/env", "NOVACRON_MODULES": "vm", "NOVACRON_NODE_NAME": "n7", "NOVACRON_HTTP_LISTEN": "0.0.0.0:9",
		"NOVACRON_HTTP_READ_HEADER_TIMEOUT": "1s", "NOVACRON_HTTP_IDLE_TIMEOUT": "2s", "NOVACRON_HTTP_READ_STALL_TIMEOUT": "3s",
		"NOVACRON_HTTP_WRITE_STALL_TIMEOUT": "4s", "NOVACRON_HTTP_MAX_HEADER_BYTES": "5000", "NOVACRON_HTTP_MAX_UPLOAD_BYTES": "6000000",
		"NOVACRON_HTTP_DRAIN_DELAY": "7s", "NOVACRON_HTTP_DRAIN_GRACE": "8s", "NOVACRON_DATABASE_URL": "postgres://u:p@h/d",
		"NOVACRON_DATABASE_MAX_CONNS": "9", "NOVACRON_REDIS_URL": "redis://h", "NOVACRON_LOG_LEVEL": "debug", "NOVACRON_LOG_FORMAT": "json",
		"NOVACRON_AUTH_ACCESS_TTL": "10m", "NOVACRON_AUTH_REFRESH_TTL": "11h", "NOVACRON_AUTH_SESSION_TTL": "12h", "NOVACRON_AUTH_ISSUER": "i",
		"NOVACRON_AUTH_AUDIENCE": "a", "NOVACRON_VM_ROLES": "node", "NOVACRON_VM_LIBVIRT_URI": "test:///default", "NOVACRON_VM_LIBVIRT_ACCEL": "tcg",
		"NOVACRON_VM_STOP_GRACE": "13s", "NOVACRON_VM_IMAGE_MAX_BYTES": "14000000", "NOVACRON_VM_NETWORK_POOL": "10.0.0.0/8",
		"NOVACRON_VM_HEARTBEAT_INTERVAL": "1s", "NOVACRON_SCHEDULER_OVERCOMMIT_VCPU": "2.5", "NOVACRON_SCHEDULER_OVERCOMMIT_MEMORY": "1.5",
		"NOVACRON_SCHEDULER_RESERVATION_TTL": "15s", "NOVACRON_SCHEDULER_NODE_TIMEOUT": "16s", "NOVACRON_REMOTES_AUTH_ADDRESS": "a:1",
		"NOVACRON_REMOTES_VM_ADDRESS": "v:1", "NOVACRON_REMOTES_FEDERATION_ADDRESS": "f:1", "NOVACRON_REMOTES_MONITORING_ADDRESS": "m:1",
		"NOVACRON_REMOTES_SCHEDULER_ADDRESS": "s:1",
	} {
		t.Setenv(name, value)
	}
	l := load(t, "")
	for key, o := range l.Origins {
		if o.Source != config.SourceEnv {
			t.Errorf("%s comes from %+v", key, o)
		}
	}
	want := config.Config{DataDir: "/env", Modules: []string{"vm"}, Node: config.Node{Name: "n7"},
		HTTP: config.HTTP{Listen: "0.0.0.0:9", ReadHeaderTimeout: time.Second, IdleTimeout: 2 * time.Second, ReadStallTimeout: 3 * time.Second,
			WriteStallTimeout: 4 * time.Second, MaxHeaderBytes: 5000, MaxUploadBytes: 6000000, DrainDelay: 7 * time.Second, DrainGrace: 8 * time.Second},
		Database: config.Database{URL: "postgres://u:p@h/d", MaxConns: 9}, Redis: config.Redis{URL: "redis://h"}, Log: config.Log{Level: "debug", Format: "json"},
		Auth: config.Auth{AccessTTL: 10 * time.Minute, RefreshTTL: 11 * time.Hour, SessionTTL: 12 * time.Hour, Issuer: "i", Audience: "a"},
		VM: config.VM{Roles: []string{"node"}, Libvirt: config.Libvirt{URI: "test:///default", Accel: "tcg"}, StopGrace: 13 * time.Second,
			ImageMaxBytes: 14000000, NetworkPool: "10.0.0.0/8", HeartbeatInterval: time.Second},
		Scheduler: config.Scheduler{OvercommitVCPU: 2.5, OvercommitMemory: 1.5, ReservationTTL: 15 * time.Second, NodeTimeout: 16 * time.Second},
		Remotes: config.Remotes{Auth: config.Remote{Address: "a:1"}, VM: config.Remote{Address: "v:1"}, Federation: config.Remote{Address: "f:1"},
			Monitoring: config.Remote{Address: "m:1"}, Scheduler: config.Remote{Address: "s:1"}},
	}
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Error(diff)
	}
	if got := l.Config.RemoteAddress("scheduler"); got != "s:1" {
		t.Errorf("the scheduler is at %q", got)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Setenv("NOVACRON_SCHEDULER_OVERCOMMIT_VCPU", "NaN")
	t.Setenv("NOVACRON_DATABASE_MAX_CONNS", "many")
	name := write(t, `data_dirr: /x
http:
  listen: 8080
  idle_timeout: 30
  max_header_bytes: "65536"
  max_upload_bytes: 12
log: {level: shout, format: xml, colour: true}
listen: 127.0.0.1:1
auth: 7
vm:
  roles: [controller, hypervisor]
  stop_grace: soon
  libvirt: {accel: auto, accel: kvm}
modules: []
database: {url: [a]}
`)
	_, err := config.Load(config.Options{File: name, Flags: flags(t)})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"data_dirr: there is no such key; did you mean data_dir? (" + name + ":1)",
		"http.listen: 8080 is not a text", "http.idle_timeout: 30 lacks a unit", "http.max_header_bytes: 65536 is not an integer",
		"http.max_upload_bytes: 12 must be at least 1048576", `log.level: "shout" is none of debug, info, warn, error (` + name + ":7)",
		`log.format: "xml" is none of`, "log.colour: there is no such key", "listen: there is no such key; did you mean http.listen?",
		"auth: must have keys below it", `vm.roles: "hypervisor" is none of controller, node`, `vm.stop_grace: "soon" is not a duration`,
		"vm.libvirt.accel: is given twice", "modules: is an empty list", "database.url: [a] is not a text",
		"scheduler.overcommit_vcpu: is not a number (NOVACRON_SCHEDULER_OVERCOMMIT_VCPU)", "database.max_conns: many is not an integer (NOVACRON_DATABASE_MAX_CONNS)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func TestMistakesAcrossFields(t *testing.T) {
	_, err := config.Load(config.Options{File: write(t, `
data_dir: relative
modules: [auth, all, auth, db]
http: {listen: nowhere}
database: {url: "mysql://u:hunter2@h/d"}
redis: {url: "http://hunter2@h"}
auth: {access_ttl: 20m, refresh_ttl: 10m, session_ttl: 5m, issuer: ""}
vm: {network_pool: 10.0.0.1/8, heartbeat_interval: 20s}
remotes: {auth: {address: "auth"}}
`)})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"data_dir:", "all stands alone", `"db" is none of`, "auth is given twice", "http.listen:", "database.url:", "redis.url:",
		"auth.refresh_ttl:", "auth.session_ttl:", "auth.issuer:", "vm.network_pool:", "scheduler.node_timeout:", "remotes.auth.address:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is in the message: %v", err)
	}
}

func TestFiles(t *testing.T) {
	if _, err := config.Load(config.Options{File: "/does/not/exist.yaml"}); err == nil {
		t.Error("a file that is not there was accepted")
	}
	for _, text := range []string{"- a\n- b\n", "data_dir: [unclosed\n", "\tdata_dir: /x\n", "text"} {
		if _, err := config.Load(config.Options{File: write(t, text)}); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"", "# nothing\n", "http:\nlog:\n  level:\n", "---\n"} {
		if _, err := config.Load(config.Options{File: write(t, text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	name := write(t, "data_dir: /named\n")
	t.Setenv("NOVACRON_CONFIG", name)
	if l, err := config.Load(config.Options{}); err != nil || l.File != name || l.Config.DataDir != "/named" {
		t.Errorf("by variable: %v", err)
	}
	other := write(t, "data_dir: /other\n")
	if l, err := config.Load(config.Options{Flags: flags(t, "--config", other)}); err != nil || l.Config.DataDir != "/other" {
		t.Errorf("by flag: %v", err)
	}
}

func TestRelativeDataDirOnTheCommandLine(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got := load(t, "", "--data-dir", "data/x").Config.DataDir; got != filepath.Join(wd, "data/x") {
		t.Errorf("got %s", got)
	}
}

func TestMisspeltVariables(t *testing.T) {
	t.Setenv("NOVACRON_HTP_LISTEN", "1")
	t.Setenv("NOVACRON_TOKEN", "the client's")
	l := load(t, "")
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "did you mean NOVACRON_HTTP_LISTEN?") {
		t.Errorf("got %q", l.Warnings)
	}
}

func TestSecretsByFile(t *testing.T) {
	secret := write(t, "postgres://u:hunter2@h/d\n")
	l := load(t, "database: {url_file: "+secret+"}\n")
	if l.Config.Database.URL != "postgres://u:hunter2@h/d" || !strings.HasSuffix(l.Origins["database.url"].Detail, secret) {
		t.Errorf("got %q from %+v", l.Config.Database.URL, l.Origins["database.url"])
	}
	t.Setenv("NOVACRON_REDIS_URL_FILE", write(t, "redis://:hunter2@h"))
	l = load(t, "")
	if l.Config.Redis.URL != "redis://:hunter2@h" {
		t.Errorf("got %q", l.Config.Redis.URL)
	}
	for _, text := range []string{
		"database: {url: 'postgres://h/d', url_file: " + secret + "}", "database: {url_file: /does/not/exist}", "database: {url_file: " + write(t, " \n") + "}",
	} {
		if _, err := config.Load(config.Options{File: write(t, text)}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Setenv("NOVACRON_DATABASE_URL", "postgres://u:hunter2@h/d")
	l := load(t, "auth: {access_ttl: 20m}\n", "--listen", "127.0.0.1:0")
	var b bytes.Buffer
	if err := l.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter2") {
		t.Error("a secret was printed")
	}
	for _, want := range []string{
		"data_dir: /var/lib/novacron  # default\n", `  listen: "127.0.0.1:0"  # flag: --listen`, "  access_ttl: 20m  # file: " + l.File + ":1\n",
		`  url: "<hidden>"  # environment: NOVACRON_DATABASE_URL`, "  libvirt:\n    uri: ", "    accel: auto  # default\n  stop_grace: 1m  # default",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	// What is printed, secrets aside, is a configuration again, and the same.
	var doc map[string]any
	if err := yaml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(b.String(), `"<hidden>"`, `"postgres://u:hunter2@h/d"`, 1)
	if diff := cmp.Diff(l.Config, load(t, text).Config); diff != "" {
		t.Error(diff)
	}
}

// TestReference keeps docs/configuration.md up to date: -update writes it.
func TestReference(t *testing.T) {
	const page = "../../docs/configuration.md"
	var b bytes.Buffer
	if err := config.Reference(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("docs/configuration.md is stale; run go test ./internal/config -update (%v)", err)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	seen := map[string]string{}
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			at := strings.TrimPrefix(path+"."+f.Tag.Get("key"), ".")
			if f.Tag.Get("key") == "" || strings.ToLower(f.Tag.Get("key")) != f.Tag.Get("key") {
				t.Errorf("%s.%s has no key in lower case", typ, f.Name)
			}
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, at)
				continue
			}
			if !strings.HasSuffix(f.Tag.Get("doc"), ".") {
				t.Errorf("%s has no documentation", at)
			}
			variable := strings.ReplaceAll(at, ".", "_")
			if other, twice := seen[variable]; twice {
				t.Errorf("%s and %s have the same variable", at, other)
			}
			seen[variable] = at
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
	if len(seen) < 30 {
		t.Errorf("only %d keys", len(seen))
	}
}
