package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/app/topology"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc"
	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/federation/federationmodule"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/monitoring/monitoringmodule"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

func hasController(cfg config.Config) bool {
	return slices.Contains(cfg.VM.Roles, vmmodule.RoleController)
}

// Graph declares the modules, what they need, and which of them the configuration runs here. The vm module's node role needs nothing
// but the bus.
func Graph(cfg config.Config) (*topology.Graph, error) {
	vmNeeds := []string{}
	if hasController(cfg) {
		vmNeeds = []string{"scheduler"}
	}
	nodes := []topology.Node{
		{Name: "auth"},
		{Name: "monitoring"},
		{Name: "scheduler"},
		{Name: "vm", Needs: vmNeeds},
		{Name: "federation", Needs: []string{"vm", "monitoring"}},
		{Name: "gateway", Needs: []string{"auth"}},
	}
	for i := range nodes {
		nodes[i].Enabled = cfg.Has(nodes[i].Name)
		nodes[i].Remote = cfg.Remote(nodes[i].Name)
	}
	return topology.Resolve(nodes)
}

// tenantHolders are the modules that keep objects of tenants, besides auth. They are asked before a tenant is deleted wherever they run: one that does
// not answer may have some.
func tenantHolders() []string { return []string{"vm", "scheduler"} }

// auditSources are the schemas, besides auth's, whose outboxes hold audit records.
func auditSources() []string { return []string{"vm", "scheduler"} }

// builder builds the modules of one process.
type builder struct {
	cfg      config.Config
	started  config.Config // as it was read; cfg has what was found out since
	opts     Options
	log      *slog.Logger
	bus      bus.Bus
	cache    cache.Cache
	answers  cache.Cache // of the gateway: Redis, or memory with a bound in bytes
	registry *prometheus.Registry

	auth     auth.Service  // of the module in this process
	vm       vm.Service    // of the controller in this process
	conns    []*grpcx.Conn // to modules in other processes
	runtime  *topology.Runtime
	gateway  *gatewaymodule.Module
	surfaces []gatewaymodule.Surface
	// recorders make the audit records of the modules without a database.
	recorders []*audit.Recorder
}

// modules builds those that the configuration runs here. None of them does anything before it is started.
func (b *builder) modules() ([]topology.Module, error) {
	var list []topology.Module
	var auth *authmodule.Module
	var monitoring *monitoringmodule.Module
	var scheduler *schedulermodule.Module
	var machines *vmmodule.Module
	for _, part := range []struct {
		name string
		make func() (topology.Module, error)
	}{
		{"auth", func() (_ topology.Module, err error) {
			deps := authmodule.Deps{Bus: b.bus, Cache: b.cache, Log: logx.ForModule(b.log, "auth"),
				Registerer: b.registry, Permissions: b.permissions, OnFirstAdmin: b.opts.OnFirstAdmin, TenantHolders: tenantHolders(), AuditSources: auditSources()}
			if cfg := b.cfg.Mailer(); cfg.Host != "" {
				if deps.Mail, err = mail.New(cfg); err != nil {
					return nil, err
				}
			}
			auth, err = authmodule.New(b.cfg.AuthModule(), deps)
			if err == nil {
				b.auth = auth.Service()
			}
			return auth, err
		}},
		{"monitoring", func() (_ topology.Module, err error) {
			rec, err := b.recorder("monitoring")
			if err != nil {
				return nil, err
			}
			monitoring, err = monitoringmodule.New(monitoringmodule.Default(), monitoringmodule.Deps{Bus: b.bus, Log: logx.ForModule(b.log, "monitoring"), Audit: rec})
			return monitoring, err
		}},
		{"scheduler", func() (_ topology.Module, err error) {
			scheduler, err = schedulermodule.New(b.cfg.SchedulerModule(), schedulermodule.Deps{Bus: b.bus, Log: logx.ForModule(b.log, "scheduler"), Registerer: b.registry})
			return scheduler, err
		}},
		{"vm", func() (_ topology.Module, err error) {
			cfg := b.cfg.VMModule()
			cfg.Version = b.opts.Build.Version
			deps := vmmodule.Deps{Bus: b.bus, Cache: b.cache, Log: logx.ForModule(b.log, "vm"), Registerer: b.registry, Fault: fault()}
			if scheduler != nil {
				deps.Scheduler = scheduler.Service()
			}
			machines, err = vmmodule.New(cfg, deps)
			if err == nil && hasController(b.cfg) {
				b.vm = machines.Service()
			}
			return machines, err
		}},
		{"federation", func() (topology.Module, error) {
			rec, err := b.recorder("federation")
			if err != nil {
				return nil, err
			}
			vms, err := b.vmService()
			if err != nil {
				return nil, err
			}
			return federationmodule.New(federationmodule.Deps{VM: vms, Monitoring: monitoring, Audit: rec})
		}},
		{"gateway", func() (_ topology.Module, err error) {
			identities, err := b.authService(auth)
			if err != nil {
				return nil, err
			}
			reference, err := Errors()
			if err != nil {
				return nil, err
			}
			rec, err := b.recorder("gateway")
			if err != nil {
				return nil, err
			}
			b.gateway, err = gatewaymodule.New(b.cfg.GatewayModule(), gatewaymodule.Deps{Auth: identities, Surfaces: b.surfaces,
				Counters: b.cache, CountersShared: b.cfg.Redis.URL != "", Answers: b.answers, Bus: b.bus,
				Readiness: b.readiness, Gatherer: b.registry, Registerer: b.registry, Log: logx.ForModule(b.log, "gateway"), Build: b.opts.Build,
				Modules: b.cfg.Modules, Errors: reference, Audit: rec})
			return b.gateway, err
		}},
	} {
		if !b.cfg.Has(part.name) {
			continue
		}
		m, err := part.make()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
		if s, ok := m.(gatewaymodule.Surface); ok && part.name != "gateway" {
			b.surfaces = append(b.surfaces, s)
		}
	}
	return list, nil
}

// authService gives the contract of auth: that of the module in this process, or of one in another.
func (b *builder) authService(local *authmodule.Module) (auth.Service, error) {
	if local != nil {
		return local.Service(), nil
	}
	conn, err := b.dial("auth")
	if err != nil {
		return nil, err
	}
	return authgrpc.NewClient(conn), nil
}

// vmService gives the contract of vm: that of the controller in this process, or of one in another.
func (b *builder) vmService() (vm.Service, error) {
	switch {
	case b.vm != nil:
		return b.vm, nil
	case b.cfg.Has("vm"):
		return nil, errors.New("vm.roles: federation needs the role controller, which this process does not run")
	}
	conn, err := b.dial("vm")
	if err != nil {
		return nil, err
	}
	return vmgrpc.NewClient(conn), nil
}

// dial prepares the connection to a module in another process. It is closed when the process ends.
func (b *builder) dial(module string) (*grpcx.Conn, error) {
	conn, err := grpcx.Dial(b.cfg.Remote(module), b.cfg.GRPC())
	if err != nil {
		return nil, err
	}
	b.conns = append(b.conns, conn)
	return conn, nil
}

// recorder makes the audit recorder of a module without a database.
func (b *builder) recorder(module string) (*audit.Recorder, error) {
	r, err := audit.New(audit.Config{Module: module, Node: b.cfg.Node.Name, Log: logx.ForModule(b.log, module), Registerer: b.registry})
	if err == nil {
		b.recorders = append(b.recorders, r)
	}
	return r, err
}

// permissions lists what the routes of the process ask for.
func (b *builder) permissions() []string {
	var list []string
	for _, s := range b.surfaces {
		for _, r := range s.Routes() {
			list = append(list, r.Permission)
		}
	}
	if b.gateway != nil {
		for _, r := range b.gateway.Routes() {
			list = append(list, r.Permission)
		}
	}
	return list
}

func (b *builder) readiness(ctx context.Context) map[string]error { return b.runtime.Readiness(ctx) }
