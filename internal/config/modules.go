package config

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/platform/tracing/otlp"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

// AuthModule gives the auth module its part.
func (c Config) AuthModule() authmodule.Config {
	m := authmodule.Default()
	m.DataDir, m.DatabaseURL, m.MaxConns = c.DataDir, c.Database.URL, c.Database.MaxConns
	m.AccessTTL, m.RefreshTTL, m.SessionTTL = c.Auth.AccessTTL, c.Auth.RefreshTTL, c.Auth.SessionTTL
	m.KeyRotation, m.KeyPublishDelay = c.Auth.KeyRotation, c.Auth.KeyPublishDelay
	m.Issuer, m.Audience = c.Auth.Issuer, c.Auth.Audience
	m.OneTimePasswordTTL, m.AuditRetention = c.Auth.OneTimePasswordTTL, c.Auth.AuditRetention
	m.PasswordLinkTTL, m.PublicURL = c.Auth.PasswordLinkTTL, c.HTTP.PublicURL
	m.SelfRegistration, m.RegistrationTenant = c.Auth.SelfRegistration.Enabled, c.Auth.SelfRegistration.Tenant
	return m
}

// Mailer tells how mail is sent; without a host there is none.
func (c Config) Mailer() mail.Config {
	m := c.Mail
	return mail.Config{Host: m.Host, Port: m.Port, TLS: m.TLS, CAFile: m.CAFile, Username: m.Username, Password: m.Password, From: m.From, HELO: m.HELO, Timeout: m.Timeout}
}

// GatewayModule gives the gateway module its part.
func (c Config) GatewayModule() gatewaymodule.Config {
	m := gatewaymodule.Default()
	m.Listen, m.ReadHeaderTimeout, m.IdleTimeout = c.HTTP.Listen, c.HTTP.ReadHeaderTimeout, c.HTTP.IdleTimeout
	m.MaxHeaderBytes, m.DrainGrace = c.HTTP.MaxHeaderBytes, c.HTTP.DrainGrace
	m.MaxUploadBytes = max(m.MaxUploadBytes, c.VM.ImageMaxBytes+1<<20, c.VM.GuestFileMax+1<<20) // the vm module says no first, and says why
	m.Timeout, m.Rates = c.Gateway.Timeout, gatewaymodule.Rates(c.Gateway.RateLimit)
	t := c.HTTP.TLS
	m.TLS = gatewaymodule.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile}
	m.HSTS, m.Origins, m.Proxies = t.HSTS, c.HTTP.CORSOrigins, c.HTTP.TrustedProxies
	m.Internal = gatewaymodule.TLS{CertFile: c.Internal.CertFile, KeyFile: c.Internal.KeyFile, ClientCAFile: c.Internal.CAFile}
	for _, s := range c.Gateway.Services {
		m.Services = append(m.Services, gatewaymodule.Service{Name: s.Name, URLs: s.URLs, Timeout: s.Timeout, Retries: s.Retries,
			InFlight: s.MaxInFlight, Failures: s.Breaker.Failures, OpenFor: s.Breaker.OpenFor, HTTP2: s.HTTP2})
	}
	for _, r := range c.Gateway.Routes {
		m.Routes = append(m.Routes, gatewaymodule.Rule(r))
	}
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
	m.LibvirtURI, m.Accel, m.NetworkNamespace = c.VM.Libvirt.URI, c.VM.Libvirt.Accel, c.VM.Libvirt.NetworkNamespace
	m.ShutdownGuests = c.VM.ShutdownGuests
	m.DetachPatience = c.VM.DetachPatience
	m.UploadTTL, m.ImageCacheBytes = c.VM.UploadTTL, c.VM.ImageCache
	m.ImportHosts, m.ImportNetworks, m.ImportMaxBytes = c.VM.ImageImport.Hosts, c.VM.ImageImport.Networks, c.VM.ImageImport.MaxBytes
	m.StopGrace, m.MaxImageBytes, m.NetworkPool, m.ReservationTTL = c.VM.StopGrace, c.VM.ImageMaxBytes, c.VM.NetworkPool, c.VM.ReservationTTL
	m.GuestFileMax, m.MetricsInterval, m.MetricsPerVM = c.VM.GuestFileMax, c.VM.MetricsEvery, c.VM.MetricsPerVM
	d := c.VM.Drift
	m.DriftMode, m.DriftInterval, m.DriftGrace, m.DriftRetention, m.DriftMaxPerNode = vm.DriftMode(d.Mode), d.Interval, d.Grace, d.Retention, d.MaxPerNode
	m.WebhookAllow = c.VM.WebhookAllow
	return m
}

// Traces tells where traces go.
func (c Config) Traces() otlp.Config {
	t := c.Telemetry
	return otlp.Config{Endpoint: t.Endpoint, CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, SampleRatio: t.SampleRatio, Instance: c.Node.Name}
}

// Inner gives the listener for gateways its part.
func (c Config) Inner() hop.Config {
	i := c.Internal
	return hop.Config{Listen: i.Listen, CertFile: i.CertFile, KeyFile: i.KeyFile, CAFile: i.CAFile, Gateways: i.Gateways}
}

// GRPC gives what this process shows to others, and what it trusts.
func (c Config) GRPC() grpcx.Config {
	return grpcx.Config{CertFile: c.Internal.CertFile, KeyFile: c.Internal.KeyFile, CAFile: c.Internal.CAFile}
}

// innerMistakes looks at what no module looks at.
func (c Config) innerMistakes() []error {
	var list []error
	i := c.Internal
	if i.Listen != "" {
		if i.CertFile == "" || i.KeyFile == "" || i.CAFile == "" || len(i.Gateways) == 0 {
			list = append(list, errors.New("internal.listen: needs internal.cert_file, key_file, ca_file and gateways"))
		}
		if c.Has("gateway") {
			list = append(list, errors.New("internal.listen: is for processes without a gateway"))
		}
	}
	secured := i.CertFile != "" && i.KeyFile != "" && i.CAFile != ""
	if (i.GRPCListen != "" || len(i.Remotes) > 0) && !secured {
		list = append(list, errors.New("internal.grpc_listen and internal.remotes: need internal.cert_file, key_file and ca_file"))
	}
	for n, r := range i.Remotes {
		switch _, _, err := net.SplitHostPort(r.Address); {
		case r.Module != "auth" && r.Module != "vm":
			list = append(list, fmt.Errorf("internal.remotes[%d].module: %q cannot be reached in another process; auth and vm can", n, r.Module))
		case c.Has(r.Module):
			list = append(list, fmt.Errorf("internal.remotes[%d].module: %s runs in this process", n, r.Module))
		case err != nil:
			list = append(list, fmt.Errorf("internal.remotes[%d].address: %q is not HOST:PORT", n, r.Address))
		}
	}
	for n, s := range c.Gateway.Services {
		if !slices.Contains(moduleNames, s.Name) || s.Name == "gateway" {
			list = append(list, fmt.Errorf("gateway.services[%d].name: %q is no module that can run elsewhere", n, s.Name))
		} else if c.Has(s.Name) {
			list = append(list, fmt.Errorf("gateway.services[%d].name: %s runs in this process; leave it out of modules", n, s.Name))
		}
	}
	return list
}

// moduleMistakes asks the modules what they think of their part.
func (c Config) moduleMistakes() []error {
	list := append(c.innerMistakes(), c.GatewayModule().Validate()...)
	list = append(list, c.Traces().Validate()...)
	list = append(list, c.SchedulerModule().Validate()...)
	list = append(list, c.VMModule().Validate()...)
	for _, err := range c.Mailer().Validate() {
		list = append(list, fmt.Errorf("mail.%w", err))
	}
	if c.Mail.Host != "" && c.HTTP.PublicURL == "" {
		list = append(list, errors.New("mail.host: needs http.public_url, for the links in mails"))
	}
	auth := c.AuthModule()
	auth.DatabaseURL = "postgres://set-at-start" // it is known once the private server runs
	if err := auth.Validate(); err != nil {
		list = append(list, mistakesOf(err)...)
	}
	return list
}

// Has tells whether this process runs a module.
func (c Config) Has(module string) bool { return slices.Contains(c.Modules, module) }
