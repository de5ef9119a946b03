// Package federationmodule builds the federation module. It shows this installation as the first of its providers and lists the
// virtual machines of every provider in one form. It keeps nothing of its own yet, so it needs no schema.
package federationmodule

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/novacron/novacron/internal/federation"
	"github.com/novacron/novacron/internal/monitoring"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
)

// Deps is what the module needs of others.
type Deps struct {
	VM         vm.Service
	Monitoring monitoring.Service
	// Audit makes records of calls and refusals. May be nil.
	Audit *audit.Recorder
}

// Module is the federation module.
type Module struct {
	deps    Deps
	kit     *httpx.API
	started atomic.Bool
}

// New prepares the module.
func New(deps Deps) (*Module, error) {
	m := &Module{deps: deps, kit: httpx.New("federation")}
	m.kit.Audit(deps.Audit)
	type providersOutput struct {
		Body httpx.Page[federation.Provider]
	}
	httpx.Handle(m.kit, httpx.Op{ID: "multicloud-provider-list", Method: http.MethodGet, Path: "/api/v1/multicloud/providers", Permission: "multicloud:read",
		Summary: "List the places where virtual machines run", Tag: "multicloud"},
		func(ctx context.Context, _ *struct{}) (*providersOutput, error) {
			local, err := m.local(ctx)
			if err != nil {
				return nil, err
			}
			return &providersOutput{Body: httpx.Page[federation.Provider]{Items: []federation.Provider{local}}}, nil
		})
	type vmsOutput struct{ Body httpx.Page[federation.VM] }
	httpx.Handle(m.kit, httpx.Op{ID: "multicloud-vm-list", Method: http.MethodGet, Path: "/api/v1/multicloud/vms", Permission: "multicloud:read",
		Summary: "List the tenant's virtual machines of all providers, newest first", Tag: "multicloud", Description: "Needs vm:read besides.", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *httpx.PageParams) (*vmsOutput, error) {
			page, err := m.list(ctx, in)
			return &vmsOutput{Body: page}, err
		})
	return m, nil
}

func (m *Module) local(ctx context.Context) (federation.Provider, error) {
	resp, err := m.deps.Monitoring.GetHealth(ctx, monitoring.GetHealthRequest{})
	if err != nil {
		return federation.Provider{}, err
	}
	return federation.Provider{ID: federation.ProviderLocal, Name: "this installation", ProviderType: "novacron",
		HealthStatus: resp.Health.Status, CheckedAt: resp.Health.At, Enabled: true}, nil
}

func (m *Module) list(ctx context.Context, in *httpx.PageParams) (httpx.Page[federation.VM], error) {
	after, err := httpx.ParseCursor(in.Cursor)
	if err != nil {
		return httpx.Page[federation.VM]{}, err
	}
	req := vm.ListVMsRequest{Limit: in.Limit}
	if after != nil {
		req.AfterTime, req.AfterID = after.CreatedAt, after.ID
	}
	resp, err := m.deps.VM.ListVMs(ctx, req)
	if err != nil {
		return httpx.Page[federation.VM]{}, err
	}
	page := httpx.Page[federation.VM]{Items: []federation.VM{}}
	for _, machine := range resp.VMs {
		page.Items = append(page.Items, federation.VM{ID: machine.ID, Name: machine.Name, ProviderID: federation.ProviderLocal, ProviderType: "novacron",
			State: string(machine.State), VCPUs: machine.Resources.VCPUs, MemoryMiB: machine.Resources.MemoryMiB, CreatedAt: machine.CreatedAt})
	}
	if n := len(resp.VMs); resp.More && n > 0 {
		page.NextCursor = httpx.Cursor{CreatedAt: resp.VMs[n-1].CreatedAt, ID: resp.VMs[n-1].ID}.Key()
	}
	return page, nil
}

// Name is the module's name.
func (m *Module) Name() string { return "federation" }

// Start marks the module as started; it has nothing of its own to start.
func (m *Module) Start(context.Context) error { m.started.Store(true); return nil }

// Stop marks it as stopped.
func (m *Module) Stop(context.Context) error { m.started.Store(false); return nil }

// Ready tells whether the module was started.
func (m *Module) Ready(context.Context) error {
	if !m.started.Load() {
		return errs.New(errs.Unavailable, "federation.not_started", "the federation module has not started")
	}
	return nil
}

// Routes lists the module's routes.
func (m *Module) Routes() []httpx.Route { return m.kit.Routes() }

// OpenAPI gives the module's part of the OpenAPI document.
func (m *Module) OpenAPI() ([]byte, error) { return m.kit.OpenAPI() }

// Handler serves the module's routes.
func (m *Module) Handler() http.Handler { return m.kit.Handler() }
