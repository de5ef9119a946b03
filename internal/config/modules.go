package config

import (
	"slices"

	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

// AuthModule gives the auth module its part.
func (c Config) AuthModule() authmodule.Config {
	m := authmodule.Default()
	m.DataDir, m.DatabaseURL, m.MaxConns = c.DataDir, c.Database.URL, c.Database.MaxConns
	m.AccessTTL, m.RefreshTTL, m.SessionTTL = c.Auth.AccessTTL, c.Auth.RefreshTTL, c.Auth.SessionTTL
	m.Issuer, m.Audience = c.Auth.Issuer, c.Auth.Audience
	return m
}

// GatewayModule gives the gateway module its part.
func (c Config) GatewayModule() gatewaymodule.Config {
	m := gatewaymodule.Default()
	m.Listen, m.ReadHeaderTimeout, m.IdleTimeout = c.HTTP.Listen, c.HTTP.ReadHeaderTimeout, c.HTTP.IdleTimeout
	m.MaxHeaderBytes, m.DrainGrace = c.HTTP.MaxHeaderBytes, c.HTTP.DrainGrace
	m.MaxUploadBytes = max(m.MaxUploadBytes, c.VM.ImageMaxBytes+1<<20) // the vm module says no first, and says why
	return m
}

// SchedulerModule gives the scheduler module its part.
func (c Config) SchedulerModule() schedulermodule.Config {
	m, s := schedulermodule.Default(), c.Sched
	m.DatabaseURL, m.MaxConns = c.Database.URL, c.Database.MaxConns
	m.OvercommitVCPU, m.OvercommitMemory = s.OvercommitVCPU, s.OvercommitMemory
	m.MemoryReserveBytes, m.StorageReserveBytes, m.NodeTimeout = s.MemoryReserveBytes, s.StorageReserveBytes, s.NodeTimeout
	m.DefaultQuota = scheduler.Quota{VCPUs: s.DefaultQuotaVCPUs, MemoryBytes: s.DefaultQuotaMemory, StorageBytes: s.DefaultQuotaStorage, VMs: s.DefaultQuotaMachines}
	return m
}

// VMModule gives the vm module its part.
func (c Config) VMModule() vmmodule.Config {
	m := vmmodule.Default()
	m.DataDir, m.DatabaseURL, m.MaxConns = c.DataDir, c.Database.URL, c.Database.MaxConns
	m.Roles, m.NodeName, m.Owner = c.VM.Roles, c.Node.Name, c.Node.Name
	m.LibvirtURI, m.Accel = c.VM.Libvirt.URI, c.VM.Libvirt.Accel
	m.DetachPatience = c.VM.DetachPatience
	m.StopGrace, m.MaxImageBytes, m.NetworkPool, m.ReservationTTL = c.VM.StopGrace, c.VM.ImageMaxBytes, c.VM.NetworkPool, c.VM.ReservationTTL
	return m
}

// moduleMistakes asks the modules what they think of their part.
func (c Config) moduleMistakes() []error {
	list := append(c.GatewayModule().Validate(), c.SchedulerModule().Validate()...)
	list = append(list, c.VMModule().Validate()...)
	auth := c.AuthModule()
	auth.DatabaseURL = "postgres://set-at-start" // it is known once the private server runs
	if err := auth.Validate(); err != nil {
		list = append(list, mistakesOf(err)...)
	}
	return list
}

// Has tells whether this process runs a module.
func (c Config) Has(module string) bool { return slices.Contains(c.Modules, module) }
