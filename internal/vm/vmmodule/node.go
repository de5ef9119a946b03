package vmmodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/systemd"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/internal/vm/internal/node"
	"github.com/novacron/novacron/internal/vm/internal/node/firewall"
)

// nodeRole is what runs while the node role does.
type nodeRole struct {
	node     *node.Node
	firewall *firewall.Firewall
	cfg      Config
	log      *slog.Logger
}

// startNode starts the node role. It does not wait for libvirt or for the controller; ready tells when they have answered.
func startNode(ctx context.Context, cfg Config, deps Deps, newDriver func(Config, *slog.Logger) driver.Driver) (*nodeRole, error) {
	id, err := node.LoadNodeID(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	log := deps.Log.With("role", RoleNode)
	run := hostCommand(cfg.NetworkNamespace)
	if cfg.run != nil {
		run = cfg.run
	}
	fw, err := firewall.Open(filepath.Join(cfg.DataDir, "node", "policy.json"), run)
	if err != nil {
		return nil, fmt.Errorf("open the firewall: %w", err)
	}
	n := node.New(node.Config{
		Firewall: fw, Run: run,
		NodeID: id, Name: cfg.NodeName, DataDir: cfg.DataDir, Version: cfg.Version, Bus: deps.Bus, Log: log, Metrics: deps.Registerer,
		HeartbeatInterval: cfg.HeartbeatInterval, ImageCacheBytes: cfg.ImageCacheBytes, MetricsInterval: cfg.MetricsInterval, MetricsPerVM: cfg.MetricsPerVM, AgentPatience: cfg.agentPatience,
		Driver: newDriver(cfg, log),
	})
	if err := n.Start(ctx); err != nil {
		return nil, fmt.Errorf("start node %s: %w", id, err)
	}
	return &nodeRole{node: n, firewall: fw, cfg: cfg, log: log}, nil
}

// hostCommand runs programs in the network name space that libvirt lives in; empty is this process's own. They are killed when their
// context ends, and never see this process's environment.
func hostCommand(namespace string) firewall.Command {
	return func(ctx context.Context, input string, args ...string) (string, error) {
		if namespace != "" {
			args = append([]string{"nsenter", "--net=" + namespace, "--"}, args...)
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // programs and arguments are this module's own
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
		cmd.Stdin = strings.NewReader(input)
		cmd.WaitDelay = time.Second
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
		}
		return stdout.String(), nil
	}
}

func libvirtDriver(cfg Config, log *slog.Logger) driver.Driver {
	return libvirt.New(libvirt.Config{URI: cfg.LibvirtURI, Accel: libvirt.Accel(cfg.Accel), Log: log, HostsDir: filepath.Join(cfg.DataDir, "node", "leases")})
}

// stop ends the role. Guests run on, except where the host shuts down and takes them with it.
func (r *nodeRole) stop(ctx context.Context) error {
	var failed error
	if r.cfg.ShutdownGuests == GuestsAlways || r.cfg.ShutdownGuests == GuestsAuto && systemd.HostStopping(ctx) {
		failed = r.drain(ctx)
	}
	return errors.Join(failed, r.node.Stop(ctx))
}

// drainMargin is what of the time to stop is kept for what follows the guests.
const drainMargin = 5 * time.Second

func (r *nodeRole) drain(ctx context.Context) error {
	grace := r.cfg.StopGrace
	if end, ok := ctx.Deadline(); ok {
		grace = min(grace, time.Until(end)-drainMargin)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-drainMargin/2))
		defer cancel()
	}
	if err := r.node.DrainForReboot(ctx, grace); err != nil {
		return fmt.Errorf("shut guests down with their host: %w", err)
	}
	return nil
}

func (r *nodeRole) ready(ctx context.Context) error { return r.node.Ready(ctx) }
