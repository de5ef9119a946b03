// Package monitoringmodule builds the monitoring module. It follows the nodes' heartbeats, answers how the installation does, and
// publishes that on system.health at every change and at least every half minute. What it knows is told anew by each heartbeat, so it keeps
// nothing on disk.
package monitoringmodule

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/monitoring"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// Config is what the module is told at start.
type Config struct {
	NodeTimeout     time.Duration // a node is silent when its last heartbeat is older
	ForgetAfter     time.Duration // a node that has been silent for so long is no longer told of
	PublishInterval time.Duration // at most so long between two messages on system.health
}

// Default gives the usual times.
func Default() Config {
	return Config{NodeTimeout: 30 * time.Second, ForgetAfter: 24 * time.Hour, PublishInterval: 30 * time.Second}
}

// Deps is what the module needs of others.
type Deps struct {
	Bus bus.Bus
	Log *slog.Logger
	Now func() time.Time // nil: time.Now
	// Audit makes records of calls and refusals. May be nil.
	Audit *audit.Recorder
}

// Module is the monitoring module.
type Module struct {
	cfg  Config
	deps Deps
	kit  *httpx.API

	mu     sync.Mutex // guards what follows
	nodes  map[uuid.UUID]event.NodeHeartbeat
	sub    bus.Subscription
	cancel context.CancelFunc // nil: stopped
	done   chan struct{}
}

// New prepares the module.
func New(cfg Config, deps Deps) (*Module, error) {
	if cfg.NodeTimeout <= 0 || cfg.PublishInterval <= 0 || cfg.ForgetAfter < cfg.NodeTimeout {
		return nil, errors.New("monitoring: the times must be positive, and forget_after not below node_timeout")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m := &Module{cfg: cfg, deps: deps, kit: httpx.New("monitoring"), nodes: map[uuid.UUID]event.NodeHeartbeat{}}
	m.kit.Audit(deps.Audit)
	type output struct{ Body monitoring.Health }
	httpx.Handle(m.kit, httpx.Op{ID: "monitoring-health", Method: http.MethodGet, Path: "/api/v1/monitoring/health", Permission: "monitoring:read",
		Summary: "Tell how the installation and each of its nodes do", Tag: "monitoring"},
		func(ctx context.Context, _ *struct{}) (*output, error) {
			resp, err := m.GetHealth(ctx, monitoring.GetHealthRequest{})
			return &output{Body: resp.Health}, err
		})
	return m, nil
}

// Name is the module's name.
func (m *Module) Name() string { return "monitoring" }

// Start begins to follow the heartbeats.
func (m *Module) Start(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancel != nil {
		return nil
	}
	sub, err := bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat).Subscribe(m.deps.Bus, bus.SubscribeOptions{}, m.heard)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.sub, m.cancel, m.done = sub, cancel, make(chan struct{})
	go m.publish(ctx, m.done)
	return nil
}

// Stop ends it.
func (m *Module) Stop(context.Context) error {
	m.mu.Lock()
	sub, cancel, done := m.sub, m.cancel, m.done
	m.sub, m.cancel = nil, nil
	m.mu.Unlock()
	if cancel == nil {
		return nil
	}
	sub.Close()
	cancel()
	<-done
	return nil
}

// Ready tells whether the module follows the heartbeats.
func (m *Module) Ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancel == nil {
		return errs.New(errs.Unavailable, "monitoring.not_started", "the monitoring module has not started")
	}
	return nil
}

// Routes lists the module's routes.
func (m *Module) Routes() []httpx.Route { return m.kit.Routes() }

// OpenAPI gives the module's part of the OpenAPI document.
func (m *Module) OpenAPI() ([]byte, error) { return m.kit.OpenAPI() }

// Handler serves the module's routes.
func (m *Module) Handler() http.Handler { return m.kit.Handler() }

func (m *Module) heard(_ context.Context, h event.NodeHeartbeat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.nodes[h.NodeID]; ok && h.Epoch < known.Epoch {
		return
	}
	m.nodes[h.NodeID] = h
}

// GetHealth implements monitoring.Service.
func (m *Module) GetHealth(context.Context, monitoring.GetHealthRequest) (monitoring.GetHealthResponse, error) {
	now := m.deps.Now().UTC()
	health := monitoring.Health{Status: monitoring.StatusHealthy, At: now, Nodes: []monitoring.NodeHealth{}}
	m.mu.Lock()
	for id, h := range m.nodes {
		node := monitoring.NodeHealth{NodeID: id, Name: h.Name, Status: h.Health, Reason: h.Reason, LastHeartbeat: h.Timestamp, Running: h.Running}
		switch silent := now.Sub(h.Timestamp); {
		case silent > m.cfg.ForgetAfter:
			delete(m.nodes, id)
			continue
		case silent > m.cfg.NodeTimeout:
			node.Status, node.Reason = monitoring.StatusSilent, "no heartbeat for "+silent.Truncate(time.Second).String()
		}
		if node.Status != monitoring.StatusHealthy {
			health.Status = monitoring.StatusDegraded
		}
		health.Nodes = append(health.Nodes, node)
	}
	m.mu.Unlock()
	slices.SortFunc(health.Nodes, func(a, b monitoring.NodeHealth) int {
		return strings.Compare(a.Name+a.NodeID.String(), b.Name+b.NodeID.String())
	})
	return monitoring.GetHealthResponse{Health: health}, nil
}

// publish tells of the health at every change, and now and then without one. It ends with ctx.
func (m *Module) publish(ctx context.Context, done chan struct{}) {
	defer close(done)
	topic := bus.NewTopic[event.SystemHealth](bus.SubjectSystemHealth)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last string
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		resp, _ := m.GetHealth(ctx, monitoring.GetHealthRequest{}) // never fails
		h := event.SystemHealth{Timestamp: resp.Health.At, Status: resp.Health.Status, Nodes: map[string]string{}}
		now := h.Status
		for _, node := range resp.Health.Nodes {
			h.Nodes[node.NodeID.String()] = node.Status
			now += node.NodeID.String() + node.Status
		}
		if now == last && m.deps.Now().Sub(told) < m.cfg.PublishInterval {
			continue
		}
		if err := topic.Publish(ctx, m.deps.Bus, h); err != nil {
			m.deps.Log.WarnContext(ctx, "system health could not be published", "error", err)
			continue
		}
		last, told = now, m.deps.Now()
	}
}
