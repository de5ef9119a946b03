// Package config reads NovaCron's configuration: one YAML file, over it environment variables NOVACRON_…, over them the flags of the command
// line. It is strict: a key that nothing reads is a mistake, and all mistakes are reported at once with their paths. It is the only
// package that knows viper; modules are told their part as plain structs.
package config

import "time"

// Config is everything that can be set. The tag doc is the reference; docs/configuration.md is generated from it.
type Config struct {
	DataDir  string         `mapstructure:"data_dir" doc:"Folder of everything NovaCron keeps on this host: database, images, disks, keys. Its path must be traversable by the users of PostgreSQL and QEMU."`
	Modules  []string       `mapstructure:"modules" doc:"Modules that run in this process: 'all', or any of auth, vm, federation, monitoring, scheduler, gateway."`
	Node     NodeConfig     `mapstructure:"node"`
	HTTP     HTTPConfig     `mapstructure:"http"`
	Database DatabaseConfig `mapstructure:"database"`
	Redis    RedisConfig    `mapstructure:"redis"`
	Log      LogConfig      `mapstructure:"log"`
	Auth     AuthConfig     `mapstructure:"auth"`
	VM       VMConfig       `mapstructure:"vm"`
	Sched    SchedConfig    `mapstructure:"scheduler"`
}

// NodeConfig is about this host as a hypervisor node.
type NodeConfig struct {
	Name string `mapstructure:"name" doc:"Name of this host among the nodes. Empty: the host name."`
}

// HTTPConfig is about the listener of the API.
type HTTPConfig struct {
	Listen            string        `mapstructure:"listen" doc:"HOST:PORT of the API. Port 0 takes a free one. It speaks plain HTTP: beyond this host, put a TLS proxy before it."`
	ReadHeaderTimeout time.Duration `mapstructure:"read_header_timeout" doc:"A client has so long to send the head of a request."`
	IdleTimeout       time.Duration `mapstructure:"idle_timeout" doc:"An idle connection is closed after so long."`
	MaxHeaderBytes    int           `mapstructure:"max_header_bytes" doc:"The most the head of a request may have, in bytes."`
	DrainGrace        time.Duration `mapstructure:"drain_grace" doc:"At the end, requests that are being answered may take so long."`
}

// DatabaseConfig is about PostgreSQL.
type DatabaseConfig struct {
	URL      string `mapstructure:"url" secret:"true" doc:"postgres:// URL of a login that may create roles and schemas. Empty: NovaCron runs a private PostgreSQL in its data folder."`
	URLFile  string `mapstructure:"url_file" doc:"File that holds database.url, so that its password is not in the configuration."`
	MaxConns int32  `mapstructure:"max_conns" doc:"Connections that each module may hold."`
}

// RedisConfig is about the shared cache.
type RedisConfig struct {
	URL     string `mapstructure:"url" secret:"true" doc:"redis://, rediss:// or unix:// URL. Empty: the cache is in process."`
	URLFile string `mapstructure:"url_file" doc:"File that holds redis.url."`
}

// LogConfig is about the log, which goes to standard error.
type LogConfig struct {
	Level  string `mapstructure:"level" doc:"debug, info, warn or error."`
	Format string `mapstructure:"format" doc:"json, text, or auto: text on a terminal and json elsewhere."`
}

// AuthConfig is about identity.
type AuthConfig struct {
	AccessTTL  time.Duration `mapstructure:"access_ttl" doc:"How long an access token lives."`
	RefreshTTL time.Duration `mapstructure:"refresh_ttl" doc:"How long a session lives unused."`
	SessionTTL time.Duration `mapstructure:"session_ttl" doc:"How long a session lives, however much it is used."`
	Issuer     string        `mapstructure:"issuer" doc:"Issuer that is written into tokens and asked of them."`
	Audience   string        `mapstructure:"audience" doc:"Audience that is written into tokens and asked of them."`
}

// VMConfig is about virtual machines.
type VMConfig struct {
	Roles          []string      `mapstructure:"roles" doc:"controller (API, database, operations), node (the hypervisor of this host), or both."`
	Libvirt        LibvirtConfig `mapstructure:"libvirt"`
	DetachPatience time.Duration `mapstructure:"detach_patience" doc:"How long a running guest may take to let go of a disk that is detached; 1s to 10m."`
	StopGrace      time.Duration `mapstructure:"stop_grace" doc:"How long a guest may take to shut down before it is powered off."`
	ImageMaxBytes  int64         `mapstructure:"image_max_bytes" doc:"The most an uploaded image may have, in bytes."`
	NetworkPool    string        `mapstructure:"network_pool" doc:"IPv4 range that the tenants' default networks are cut from, a /24 each."`
	ReservationTTL time.Duration `mapstructure:"reservation_ttl" doc:"How long a place is held for a creation that has not begun."`
}

// LibvirtConfig is about libvirt on this host.
type LibvirtConfig struct {
	URI   string `mapstructure:"uri" doc:"Connection URI of libvirt."`
	Accel string `mapstructure:"accel" doc:"kvm, tcg (emulation, slow), or auto: kvm where the processor and /dev/kvm offer it."`
}

// SchedConfig is about placement.
type SchedConfig struct {
	OvercommitVCPU       float64       `mapstructure:"overcommit_vcpu" doc:"Virtual CPUs promised for each hardware thread."`
	OvercommitMemory     float64       `mapstructure:"overcommit_memory" doc:"Memory promised for each byte there is, after the reserve."`
	MemoryReserveBytes   int64         `mapstructure:"memory_reserve_bytes" doc:"Memory of each node that is kept for the node itself."`
	StorageReserveBytes  int64         `mapstructure:"storage_reserve_bytes" doc:"Storage of each node that is never promised."`
	NodeTimeout          time.Duration `mapstructure:"node_timeout" doc:"A node whose heartbeat is older takes no new virtual machines."`
	DefaultQuotaVCPUs    int64         `mapstructure:"default_quota_vcpus" doc:"Virtual CPUs a tenant may have unless its own quota says otherwise. 0: no limit."`
	DefaultQuotaMemory   int64         `mapstructure:"default_quota_memory_bytes" doc:"Memory a tenant may have. 0: no limit."`
	DefaultQuotaStorage  int64         `mapstructure:"default_quota_storage_bytes" doc:"Storage a tenant may have. 0: no limit."`
	DefaultQuotaMachines int64         `mapstructure:"default_quota_vms" doc:"Virtual machines a tenant may have. 0: no limit."`
}
