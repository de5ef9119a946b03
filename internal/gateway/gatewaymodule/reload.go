package gatewaymodule

import (
	"errors"
	"fmt"
	"sync"

	"github.com/novacron/novacron/internal/gateway/internal/docs"
	"github.com/novacron/novacron/internal/gateway/internal/edge"
	"github.com/novacron/novacron/internal/gateway/internal/openapi"
)

// Reload takes over routes, rates, time limits, origins and trusted proxies from another configuration, and the certificate from its files. Requests that are
// being answered go on by the rules they began with. Where the configuration is not valid, nothing changes.
func (m *Module) Reload(cfg Config) error {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return err
	}
	if pair := m.pair.Load(); pair != nil {
		if err := pair.Reload(); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	return m.rebuild(cfg)
}

// current is the configuration in force.
func (m *Module) current() Config { return m.live.Load().cfg }

// rebuild makes the route table and the OpenAPI document anew, of a configuration and of what is known of the modules now.
func (m *Module) rebuild(cfg Config) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	table, err := edge.NewTable(m.Surfaces(), cfg.rules(), "/health", "/ready", "/metrics")
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
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
