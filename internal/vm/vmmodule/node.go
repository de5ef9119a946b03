package vmmodule

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/internal/vm/internal/node"
)

// nodeRole is what runs while the node role does.
type nodeRole struct{ node *node.Node }

// startNode starts the node role. It does not wait for libvirt or for the controller; ready tells when they have answered.
func startNode(ctx context.Context, cfg Config, deps Deps, newDriver func(Config, *slog.Logger) driver.Driver) (*nodeRole, error) {
	id, err := node.LoadNodeID(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	log := deps.Log.With("role", RoleNode)
	n := node.New(node.Config{
		NodeID: id, Name: cfg.NodeName, DataDir: cfg.DataDir, Version: cfg.Version, Bus: deps.Bus, Log: log, Metrics: deps.Registerer,
		HeartbeatInterval: cfg.HeartbeatInterval,
		Driver:            newDriver(cfg, log),
	})
	if err := n.Start(ctx); err != nil {
		return nil, fmt.Errorf("start node %s: %w", id, err)
	}
	return &nodeRole{node: n}, nil
}

func libvirtDriver(cfg Config, log *slog.Logger) driver.Driver {
	return libvirt.New(libvirt.Config{URI: cfg.LibvirtURI, Accel: libvirt.Accel(cfg.Accel), Log: log})
}

func (r *nodeRole) stop(ctx context.Context) error { return r.node.Stop(ctx) }

func (r *nodeRole) ready(ctx context.Context) error { return r.node.Ready(ctx) }
