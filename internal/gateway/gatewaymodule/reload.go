package gatewaymodule

import (
	"errors"
	"fmt"
	"sync"

	"github.com/novacron/novacron/internal/gateway/internal/docs"
	"github.com/novacron/novacron/internal/gateway/internal/edge"
	"github.com/novacron/novacron/internal/gateway/internal/openapi"
)

// Reload takes over routes, modules in other processes, rates, time limits, origins and trusted proxies from another configuration, and the
// certificate and the authorities of clients from their files. Requests that are being answered go on by the rules they began with. Where the configuration is not valid,
// nothing changes.
func (m *Module) Reload(cfg Config) error {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return err
	}
	if err := m.reloadTLS(); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	m.changing.Lock()
	before := m.remotes.now()
	now, err := m.remotesOf(cfg)
	if err == nil {
		m.remotes.set(now)
		if err = m.rebuild(cfg); err != nil {
			m.remotes.set(before)
		}
	}
	m.changing.Unlock()
	if err != nil {
		return err
	}
	m.changeRemotes(before)
	return nil
}

// refresh takes over what has become known of the modules.
func (m *Module) refresh() error {
	m.changing.Lock()
	defer m.changing.Unlock()
	return m.rebuild(m.live.Load().cfg)
}

// rebuild makes the route table and the OpenAPI document anew, of a configuration and of what is known of the modules now. The caller holds
// changing, or is alone.
func (m *Module) rebuild(cfg Config) error {
	table, err := edge.NewTable(m.Surfaces(), cfg.rules(), "/health", "/ready", "/metrics")
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	for _, r := range table.Idle(cfg.Routes) {
		m.deps.Log.Warn("a rule in gateway.routes applies to no route that is served", "path", r.Path, "service", r.Service, "methods", r.Methods)
	}
	spec, err := m.mergeSpecs()
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	next := &live{cfg: cfg, spec: spec, json: docs.NewFile("application/json", spec), yaml: sync.OnceValues(func() (*docs.File, error) {
		text, err := openapi.YAML(spec)
		if err != nil {
			return nil, err
		}
		return docs.NewFile("application/yaml", text), nil
	}), state: edge.State{Table: table, Timeout: cfg.Timeout, CORS: cfg.cors(), HSTS: cfg.hsts(), Proxies: cfg.proxies()}}
	if m.limits != nil {
		next.state.Limits = m.limits.WithRates(cfg.Rates.limits())
	}
	m.live.Store(next)
	m.edge.SetState(next.state)
	return nil
}
