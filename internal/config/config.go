// Package config reads NovaCron's configuration: defaults, one YAML file, environment variables and a few flags, each overriding what is
// before it. It is strict: an unknown key is an error, and all mistakes are told at once with their paths. It is the only package that uses
// viper. Only the composition root and the command line import it; modules get plain structs that it is mapped to.
package config

import "time"

// Config is everything that can be configured. Every field names its key (key), what it is (doc) and, where they apply, its bounds: enum, min
// and max. A field marked secret can also be given by file, under its key with _file behind it, and is never shown.
type Config struct {
	DataDir string   `key:"data_dir" doc:"Folder for everything that NovaCron keeps: the private database, keys, images and disks. An absolute path."`
	Modules []string `key:"modules" doc:"The modules that this process runs: all, or a list of auth, vm, federation, monitoring, scheduler and gateway. A module that needs another one, which runs nowhere, is an error at start."`

	Node      Node      `key:"node"`
	HTTP      HTTP      `key:"http"`
	Database  Database  `key:"database"`
	Redis     Redis     `key:"redis"`
	Log       Log       `key:"log"`
	Auth      Auth      `key:"auth"`
	VM        VM        `key:"vm"`
	Scheduler Scheduler `key:"scheduler"`
	Remotes   Remotes   `key:"remotes"`
}

// Node is this machine.
type Node struct {
	Name string `key:"name" doc:"What this machine is called in lists of nodes and in logs. Empty means the host name."`
}

// HTTP is the front door; the gateway module listens there.
type HTTP struct {
	Listen            string        `key:"listen" doc:"HOST:PORT that the API is served on. Port 0 takes a free one. There is no TLS yet: put a proxy in front before you listen on other than a loopback address."`
	ReadHeaderTimeout time.Duration `key:"read_header_timeout" min:"100ms" max:"10m" doc:"A client has so long to send the head of a request."`
	IdleTimeout       time.Duration `key:"idle_timeout" min:"1s" max:"24h" doc:"An idle connection is closed after so long."`
	ReadStallTimeout  time.Duration `key:"read_stall_timeout" min:"100ms" max:"1h" doc:"A request whose body stops coming for so long is ended. It may go on for as long as bytes come."`
	WriteStallTimeout time.Duration `key:"write_stall_timeout" min:"100ms" max:"1h" doc:"A client that takes nothing of its answer for so long loses the connection."`
	MaxHeaderBytes    int           `key:"max_header_bytes" min:"4096" max:"1048576" doc:"The most that the head of a request may have."`
	MaxUploadBytes    int64         `key:"max_upload_bytes" min:"1048576" doc:"The most that any body may have. Routes have limits of their own below it; see vm.image_max_bytes."`
	DrainDelay        time.Duration `key:"drain_delay" min:"0s" max:"10m" doc:"At the end, /ready answers 503 for so long before the listener closes. Set it where a load balancer asks /ready."`
	DrainGrace        time.Duration `key:"drain_grace" min:"0s" max:"10m" doc:"At the end, requests that are being answered may take so long."`
}

// Database is the PostgreSQL that modules keep their state in.
type Database struct {
	URL      string `key:"url" secret:"true" doc:"PostgreSQL to use, as postgres://USER:PASSWORD@HOST:PORT/DATABASE, version 15 or later, with a login that may create roles and schemas. Empty: NovaCron starts a private one in its data folder."`
	MaxConns int    `key:"max_conns" min:"0" max:"1000" doc:"Connections that each module may open. 0 means the module's own default."`
}

// Redis is the shared cache.
type Redis struct {
	URL string `key:"url" secret:"true" doc:"Redis to use as cache, as redis://USER:PASSWORD@HOST:PORT/DB. Empty: the cache is inside the process, which is enough for one."`
}

// Log is how NovaCron logs, on standard error.
type Log struct {
	Level  string `key:"level" enum:"debug,info,warn,error" doc:"The least that is logged."`
	Format string `key:"format" enum:"auto,json,text" doc:"How lines look. auto: text on a terminal, JSON otherwise."`
}

// Auth is the auth module.
type Auth struct {
	AccessTTL  time.Duration `key:"access_ttl" min:"1m" max:"24h" doc:"How long an access token lives."`
	RefreshTTL time.Duration `key:"refresh_ttl" min:"1m" max:"8760h" doc:"How long a session lives unused. Not below access_ttl."`
	SessionTTL time.Duration `key:"session_ttl" min:"1m" max:"87600h" doc:"How long a session lives, however much it is used. Not below refresh_ttl."`
	Issuer     string        `key:"issuer" doc:"Written into tokens as their issuer, and asked of them."`
	Audience   string        `key:"audience" doc:"Written into tokens as their audience, and asked of them."`
}

// VM is the vm module.
type VM struct {
	Roles             []string      `key:"roles" enum:"controller,node" doc:"controller: API, database and operations; node: the hypervisor of this machine, which needs no database."`
	Libvirt           Libvirt       `key:"libvirt"`
	StopGrace         time.Duration `key:"stop_grace" min:"0s" max:"1h" doc:"How long a guest may take to shut down before it is powered off."`
	ImageMaxBytes     int64         `key:"image_max_bytes" min:"1048576" doc:"The most that an image may have."`
	NetworkPool       string        `key:"network_pool" doc:"IPv4 range, as CIDR of /24 or larger, that tenants' default networks are cut from, a /24 each."`
	HeartbeatInterval time.Duration `key:"heartbeat_interval" min:"1s" max:"5m" doc:"How often the node role tells how it does. Keep it well below scheduler.node_timeout."`
}

// Libvirt is how the vm module's node role reaches its hypervisor.
type Libvirt struct {
	URI   string `key:"uri" doc:"The libvirt connection of this machine."`
	Accel string `key:"accel" enum:"auto,kvm,tcg" doc:"Acceleration of guests. auto: kvm where /dev/kvm works, tcg (slow, pure emulation) otherwise."`
}

// Scheduler is the scheduler module.
type Scheduler struct {
	OvercommitVCPU   float64       `key:"overcommit_vcpu" min:"0.1" max:"256" doc:"Virtual CPUs that may be promised for each hardware thread."`
	OvercommitMemory float64       `key:"overcommit_memory" min:"0.1" max:"16" doc:"Memory that may be promised, as a multiple of what a node has."`
	ReservationTTL   time.Duration `key:"reservation_ttl" min:"1s" max:"24h" doc:"A placement that nobody confirmed is given back after so long."`
	NodeTimeout      time.Duration `key:"node_timeout" min:"1s" max:"24h" doc:"A node that was silent for so long counts as unreachable and gets nothing new."`
}

// Remotes are the modules that run in other processes.
type Remotes struct {
	Auth       Remote `key:"auth"`
	VM         Remote `key:"vm"`
	Federation Remote `key:"federation"`
	Monitoring Remote `key:"monitoring"`
	Scheduler  Remote `key:"scheduler"`
}

// Remote is a module that runs in another process.
type Remote struct {
	Address string `key:"address" doc:"HOST:PORT of the process that runs the module, where this one does not."`
}

// ModuleNames are the modules there are.
func ModuleNames() []string {
	return []string{"auth", "vm", "federation", "monitoring", "scheduler", "gateway"}
}

// Default gives the configuration of a single host.
func Default() Config {
	return Config{
		DataDir: "/var/lib/novacron", Modules: []string{"all"},
		HTTP: HTTP{Listen: "127.0.0.1:8080", ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ReadStallTimeout: 30 * time.Second,
			WriteStallTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10, MaxUploadBytes: 65 << 30, DrainGrace: 10 * time.Second},
		Log: Log{Level: "info", Format: "auto"},
		Auth: Auth{AccessTTL: 15 * time.Minute, RefreshTTL: 30 * 24 * time.Hour, SessionTTL: 90 * 24 * time.Hour,
			Issuer: "novacron", Audience: "novacron"},
		VM: VM{Roles: []string{"controller", "node"}, Libvirt: Libvirt{URI: "qemu:///system", Accel: "auto"}, StopGrace: time.Minute,
			ImageMaxBytes: 64 << 30, NetworkPool: "10.100.0.0/14", HeartbeatInterval: 5 * time.Second},
		Scheduler: Scheduler{OvercommitVCPU: 16, OvercommitMemory: 1, ReservationTTL: 10 * time.Minute, NodeTimeout: 30 * time.Second},
	}
}
