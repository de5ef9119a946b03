package config

import (
	"time"

	"github.com/novacron/novacron/internal/auth/authmodule"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

// DefaultDataDir is where NovaCron keeps everything where nothing else is said.
const DefaultDataDir = "/var/lib/novacron"

// Default gives the configuration of a single host. The modules' own defaults are the truth; here they are only named.
func Default() Config {
	a, g, s, v := authmodule.Default(), gatewaymodule.Default(), schedulermodule.Default(), vmmodule.Default()
	return Config{
		DataDir: DefaultDataDir, Modules: []string{"all"},
		HTTP: HTTPConfig{Listen: g.Listen, ReadHeaderTimeout: g.ReadHeaderTimeout, IdleTimeout: g.IdleTimeout,
			MaxHeaderBytes: g.MaxHeaderBytes, DrainGrace: g.DrainGrace, TLS: TLSConfig{HSTS: g.HSTS}},
		Gateway:   GatewayConfig{Timeout: g.Timeout, RateLimit: GatewayRatesConfig{User: g.Rates.User, Key: g.Rates.Key, Tenant: g.Rates.Tenant, Address: g.Rates.Address}},
		Internal:  InternalConfig{Gateways: []string{"gateway"}, Peers: []string{"gateway"}},
		Database:  DatabaseConfig{MaxConns: 10},
		Log:       LogConfig{Level: "info", Format: "auto", Hold: 100 * time.Millisecond},
		Runtime:   RuntimeConfig{GCRoomBytes: 32 << 20},
		Telemetry: TelemetryConfig{SampleRatio: 1},
		Auth: AuthConfig{AccessTTL: a.AccessTTL, RefreshTTL: a.RefreshTTL, SessionTTL: a.SessionTTL, KeyRotation: a.KeyRotation, KeyPublishDelay: a.KeyPublishDelay, Issuer: a.Issuer, Audience: a.Audience,
			OneTimePasswordTTL: a.OneTimePasswordTTL, PasswordLinkTTL: a.PasswordLinkTTL, AuditRetention: a.AuditRetention},
		Mail: MailConfig{TLS: mail.TLSStart, Timeout: 15 * time.Second},
		VM: VMConfig{Roles: v.Roles, Libvirt: LibvirtConfig{URI: v.LibvirtURI, Accel: v.Accel}, ShutdownGuests: v.ShutdownGuests, DetachPatience: v.DetachPatience, StopGrace: v.StopGrace,
			ImageMaxBytes: v.MaxImageBytes, UploadTTL: v.UploadTTL, ImageCache: v.ImageCacheBytes,
			ImageImport: ImageImport{Hosts: v.ImportHosts, Networks: v.ImportNetworks, MaxBytes: v.ImportMaxBytes}, NetworkPool: v.NetworkPool, ReservationTTL: v.ReservationTTL,
			GuestFileMax: v.GuestFileMax, MetricsEvery: v.MetricsInterval, MetricsPerVM: v.MetricsPerVM,
			Drift: DriftConfig{Mode: string(v.DriftMode), Interval: v.DriftInterval, Grace: v.DriftGrace, Retention: v.DriftRetention, MaxPerNode: v.DriftMaxPerNode}},
		Sched: SchedConfig{OvercommitVCPU: s.OvercommitVCPU, OvercommitMemory: s.OvercommitMemory,
			MemoryReserveBytes: s.MemoryReserveBytes, StorageReserveBytes: s.StorageReserveBytes, NodeTimeout: s.NodeTimeout},
	}
}
