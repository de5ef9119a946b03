package config

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

func TestReferenceIsUpToDate(t *testing.T) {
	const file = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(file, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != Reference() {
		t.Errorf("%s is stale; run 'make gen': %v", file, err)
	}
	for _, k := range keysOf(Default()) {
		if k.doc == "" {
			t.Errorf("%s has no documentation", k.path)
		}
	}
}

func load(t *testing.T, yaml string, args ...string) (Loaded, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := flags.Parse(append(args, "--config", file)); err != nil {
		t.Fatal(err)
	}
	return Load(flags)
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Listen != "127.0.0.1:8080" || c.DataDir != "/var/lib/novacron" || !slices.Equal(c.Modules, moduleNames) || c.Node.Name == "" {
		t.Errorf("got %+v", c.Config)
	}
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	yaml := "http:\n  listen: 127.0.0.1:1\ndata_dir: /file\nvm:\n  stop_grace: 5s\n  libvirt:\n    uri: qemu:///file\n"
	t.Setenv("NOVACRON_DATA_DIR", "/env")
	t.Setenv("NOVACRON_HTTP_LISTEN", "127.0.0.1:2")
	t.Setenv("NOVACRON_MODULES", "auth, gateway")
	t.Setenv("NOVACRON_VM_LIBVIRT_URI", "qemu:///env")
	t.Setenv("NOVACRON_DATABASE_URL", "postgres://user:secret@host/db")
	c, err := load(t, yaml, "--listen", "127.0.0.1:3")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Listen != "127.0.0.1:3" || c.DataDir != "/env" || c.VM.StopGrace != 5*time.Second || c.VM.Libvirt.URI != "qemu:///env" ||
		!slices.Equal(c.Modules, []string{"auth", "gateway"}) {
		t.Errorf("got %+v", c.Config)
	}
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"listen: \"127.0.0.1:3\"  # flag", "data_dir: \"/env\"  # environment", "stop_grace: 5s  # file", "url: \"(hidden)\"  # environment", "accel: \"auto\"  # default"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("print lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "secret@") {
		t.Error("print shows a secret")
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	t.Setenv("NOVACRON_HTPP_LISTEN", "x")
	for name, test := range map[string]struct {
		yaml string
		want []string
	}{
		"unknown keys": {"colour: red\nhttp:\n  lisen: x\n", []string{"colour", "lisen", "NOVACRON_HTPP_LISTEN"}},
		"wrong types":  {"http:\n  max_header_bytes: many\nvm:\n  stop_grace: soon\n", []string{"max_header_bytes", "stop_grace"}},
		"bad values": {"modules: [auth, vmm]\nlog: {level: loud, hold: 1h}\nruntime: {gc_room_bytes: -1}\nhttp: {listen: nowhere}\nvm: {stop_grace: -1s, libvirt: {accel: warp}, network_pool: x}\n" +
			"scheduler: {overcommit_vcpu: 0}\ndatabase: {url: 'mysql://x'}\nauth: {access_ttl: 0s}\n",
			[]string{"vmm", "log.level", "log.hold", "runtime.gc_room_bytes", "http.listen", "vm.stop_grace", "vm.libvirt.accel", "vm.network_pool", "scheduler.overcommit_vcpu", "database.url", "access"}},
		"bad remotes": {"modules: [vm, scheduler]\ninternal: {cert_file: a, key_file: b, ca_file: c, remotes: [{module: vm, address: a:1}, {module: scheduler, address: a:1}, {module: auth, address: a}]}\n",
			[]string{"internal.remotes[0].module: vm runs in this process", `internal.remotes[1].module: "scheduler" cannot be reached`, "internal.remotes[2].address"}},
		"missing secret": {"redis: {url_file: /does/not/exist}\n", []string{"redis.url_file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.yaml)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("does not name %s:\n%v", want, err)
				}
			}
		})
	}
}

func TestSecretsFromFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("postgres://u:p@h/d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, "database: {url_file: "+file+"}\n")
	if err != nil || c.Database.URL != "postgres://u:p@h/d" {
		t.Errorf("got %q: %v", c.Database.URL, err)
	}
}
