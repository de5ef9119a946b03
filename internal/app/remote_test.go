package app

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/vm/vmgrpc"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

// apart is the configuration of a process that runs some modules and reaches others.
func apart(t *testing.T, modules []string, remotes ...config.RemoteModule) config.Config {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.IssueTo(dir, pki.Request{Name: "part"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir, cfg.Node.Name, cfg.Modules = t.TempDir(), "test", modules
	cfg.Internal.CertFile, cfg.Internal.KeyFile, cfg.Internal.CAFile = cert, key, filepath.Join(dir, "ca.crt")
	cfg.Internal.Remotes = remotes
	return cfg
}

func builderOf(t *testing.T, cfg config.Config) *builder {
	t.Helper()
	log, _, err := logx.New(logx.Options{Writer: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := telemetry.NewRegistry(telemetry.Build{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{cfg: cfg, log: log, registry: registry}
	t.Cleanup(func() {
		for _, conn := range b.conns {
			_ = conn.Close()
		}
	})
	return b
}

// Federation lives without vm in its process, where that one's address is known, and the graph shows it.
func TestFederationReachesVMElsewhere(t *testing.T) {
	cfg := apart(t, []string{"monitoring", "federation"}, config.RemoteModule{Module: "vm", Address: "192.0.2.7:9090"})
	graph, err := Graph(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if err := graph.Render(&shown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vm          remote at 192.0.2.7:9090", "needs vm [remote]", "needs monitoring [local]"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("no %q in\n%s", want, shown.String())
		}
	}
	vms, err := builderOf(t, cfg).vmService()
	if _, is := vms.(*vmgrpc.Client); err != nil || !is {
		t.Errorf("federation is given %T, error %v", vms, err)
	}
	cfg.Internal.Remotes = nil
	if _, err := Graph(cfg); err == nil || !strings.Contains(err.Error(), "module federation needs vm") {
		t.Errorf("without an address: %v", err)
	}
}

// A node has no contract to serve, and federation beside it is refused instead of failing at its first request.
func TestNodesServeNoContract(t *testing.T) {
	cfg := apart(t, []string{"vm", "monitoring", "federation"})
	cfg.VM.Roles = []string{vmmodule.RoleNode}
	cfg.Internal.GRPCListen = "127.0.0.1:0"
	b := builderOf(t, cfg)
	if _, err := b.vmService(); err == nil || !strings.Contains(err.Error(), "vm.roles") {
		t.Errorf("federation beside a node: %v", err)
	}
	if _, err := b.serveContracts(t.Context()); err == nil || !strings.Contains(err.Error(), "no module that others can call") {
		t.Errorf("a node serves contracts: %v", err)
	}
}
