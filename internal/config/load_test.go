package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
)

func TestMistakesNameTheirPlaceAndWhatWasMeant(t *testing.T) {
	t.Setenv("NOVACRON_SCHEDULER_OVERCOMMIT_VCPU", "many")
	t.Setenv("NOVACRON_HTP_LISTEN", "x")
	c, err := load(t, `data_dirr: /x
http:
  listen: 8080
  idle_timeout: 30
  max_header_bytes: "65536"
  drain_grace: 1.5
log: {level: shout, colour: true}
listen: 127.0.0.1:1
auth: 7
vm:
  roles: [controller, 5]
  libvirt: {accel: auto, accel: kvm}
modules: [auth, auth]
database: {url: [a], max_conns: 70000.9}
HTTP: {idle_timeout: 3s}
`)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"data_dirr: is not a setting; did you mean data_dir? (" + c.File + ":1)",
		"http.listen: 8080 is not a text", "http.idle_timeout: 30 lacks a unit; write it as 30s, 15m or 720h (file " + c.File + ":4)",
		"http.max_header_bytes: 65536 is not an integer", "http.drain_grace: 1.5 lacks a unit", `log.level: "shout"`, "log.colour: is not a setting",
		"listen: is not a setting; did you mean http.listen?", "auth: must have keys below it", "vm.roles: 5 in the list is not a text",
		"vm.libvirt.accel: is given twice", "modules: auth is named twice", "database.url: [a] is not a text", "database.max_conns: 70000.9 is not an integer",
		"HTTP: is not a setting", "scheduler.overcommit_vcpu: many is not a number (environment NOVACRON_SCHEDULER_OVERCOMMIT_VCPU)",
		"NOVACRON_HTP_LISTEN is not a setting; did you mean NOVACRON_HTTP_LISTEN?",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Setenv("NOVACRON_HTTP_LISTEN", "127.0.0.1:2")
	t.Setenv("NOVACRON_LOG_LEVEL", "") // an empty variable is none
	t.Setenv("NOVACRON_DATABASE_MAX_CONNS", "7")
	t.Setenv("NOVACRON_AUTH_ACCESS_TTL", "20m")
	c, err := load(t, "\nhttp:\n  idle_timeout: 7s\nscheduler: {overcommit_vcpu: 2, overcommit_memory: 1.5}\n", "--modules", "auth,gateway")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"http.listen": "environment NOVACRON_HTTP_LISTEN", "http.idle_timeout": "file " + c.File + ":3",
		"modules": "flag --modules", "log.level": "default", "database.max_conns": "environment NOVACRON_DATABASE_MAX_CONNS"} {
		if c.Sources[key] != want {
			t.Errorf("%s comes from %q, want %q", key, c.Sources[key], want)
		}
	}
	if c.HTTP.IdleTimeout != 7*time.Second || c.Database.MaxConns != 7 || c.Auth.AccessTTL != 20*time.Minute || c.Sched.OvercommitVCPU != 2 ||
		c.Sched.OvercommitMemory != 1.5 || c.Log.Level != "info" || len(c.Modules) != 2 {
		t.Errorf("got %+v", c.Config)
	}
}

// TestPrintedConfigurationReadsBack: what Print writes, secrets aside, is the same configuration again.
func TestPrintedConfigurationReadsBack(t *testing.T) {
	first, err := load(t, "auth: {access_ttl: 90s}\nvm: {roles: [node]}\nnode: {name: 'on'}\n", "--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := first.Print(&b); err != nil {
		t.Fatal(err)
	}
	second, err := load(t, b.String())
	if err != nil {
		t.Fatal(err)
	}
	var again strings.Builder
	second.Sources, second.File = first.Sources, first.File
	if err := second.Print(&again); err != nil || again.String() != b.String() {
		t.Errorf("%v\n%s\nbecame\n%s", err, b.String(), again.String())
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for _, text := range []string{"- a\n- b\n", "data_dir: [unclosed\n", "\tdata_dir: /x\n", "text"} {
		if _, err := load(t, text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"", "# nothing\n", "http:\nlog:\n  level:\n", "---\n"} {
		if _, err := load(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	t.Setenv("NOVACRON_CONFIG", "/does/not/exist.yaml")
	if _, err := Load(nil); err == nil {
		t.Error("a file that is not there was accepted")
	}
}

type item struct {
	Name    string        `mapstructure:"name" doc:"Its name."`
	On      bool          `mapstructure:"on" doc:"Whether."`
	Timeout time.Duration `mapstructure:"timeout" doc:"How long."`
	Methods []string      `mapstructure:"methods" doc:"Which."`
	Breaker struct {
		Failures int `mapstructure:"failures" doc:"How many."`
	} `mapstructure:"breaker"`
}

func TestListsOfGroups(t *testing.T) {
	var list []item
	target := reflect.ValueOf(&list).Elem()
	const text = `[{name: "a: b", on: true, timeout: 3s, methods: [GET, "*"], breaker: {failures: 3}}, {name: "c"}]`
	if err := convert(text, target, true); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Name != "a: b" || !list[0].On || list[0].Timeout != 3*time.Second || list[0].Methods[1] != "*" || list[0].Breaker.Failures != 3 {
		t.Errorf("got %+v", list)
	}
	if got := listText(target); got != text {
		t.Errorf("written as %s", got)
	}
	err := convert(`[{nam: a, breaker: {failure: 1}, on: maybe, methods: 3}, 7, {breaker: 1, timeout: 3}]`, target, true)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"[0].nam: is not a setting; did you mean name?", "[0].breaker.failure: is not a setting; did you mean breaker.failures?",
		"[0].on: maybe is neither", "[0].methods: 3 is not a list", "[1]: is not a group", "[2].breaker: is not a setting", "[2].timeout: 3 lacks a unit"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	if err := convert(`{name: a}`, target, true); err == nil {
		t.Error("a group was taken for a list")
	}
}

// The word off takes a setting of a route back; no other setting takes it.
func TestOff(t *testing.T) {
	c, err := load(t, "\ngateway:\n  routes: [{path: /api/vms/*, cache_ttl: off, timeout: off, retries: off}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := c.GatewayModule().Routes[0]; r.CacheTTL != gatewaymodule.Off || r.Timeout != gatewaymodule.Off || r.Retries != gatewaymodule.Off {
		t.Errorf("read as %+v", r)
	}
	if text := listText(reflect.ValueOf(c.Gateway.Routes)); !strings.Contains(text, "cache_ttl: off, timeout: off, retries: off") {
		t.Errorf("shown as %s", text)
	}
	for _, wrong := range []string{"gateway:\n  routes: [{path: /api/vms/*, cost: off}]", "gateway: {timeout: off}", "gateway:\n  services: [{name: auth, urls: [https://x:1], retries: off}]"} {
		if _, err := load(t, "\n"+wrong+"\n"); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
