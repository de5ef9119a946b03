// Package config reads NovaCron's configuration: one YAML file, over it environment variables NOVACRON_…, over them the flags of the command
// line. It is strict: a key that nothing reads is a mistake, and all mistakes are reported at once with their paths. It is the only
// package that knows viper; modules are told their part as plain structs.
package config

import "time"

// Config is everything that can be set. The tag doc is the reference; docs/configuration.md is generated from it.
type Config struct {
	DataDir   string          `mapstructure:"data_dir" doc:"Folder of everything NovaCron keeps on this host: database, images, disks, keys. Its path must be traversable by the users of PostgreSQL and QEMU."`
	Modules   []string        `mapstructure:"modules" doc:"Modules that run in this process: 'all', or any of auth, vm, federation, monitoring, scheduler, gateway."`
	Node      NodeConfig      `mapstructure:"node"`
	HTTP      HTTPConfig      `mapstructure:"http"`
	Gateway   GatewayConfig   `mapstructure:"gateway"`
	Internal  InternalConfig  `mapstructure:"internal"`
	Database  DatabaseConfig  `mapstructure:"database"`
	Redis     RedisConfig     `mapstructure:"redis"`
	Log       LogConfig       `mapstructure:"log"`
	Runtime   RuntimeConfig   `mapstructure:"runtime"`
	Telemetry TelemetryConfig `mapstructure:"telemetry"`
	Auth      AuthConfig      `mapstructure:"auth"`
	Mail      MailConfig      `mapstructure:"mail"`
	VM        VMConfig        `mapstructure:"vm"`
	Sched     SchedConfig     `mapstructure:"scheduler"`
}

// NodeConfig is about this host as a hypervisor node.
type NodeConfig struct {
	Name string `mapstructure:"name" doc:"Name of this host among the nodes. Empty: the host name."`
}

// HTTPConfig is about the listener of the API.
type HTTPConfig struct {
	Listen            string        `mapstructure:"listen" doc:"HOST:PORT of the API. Port 0 takes a free one. Beyond this host, set http.tls."`
	PublicURL         string        `mapstructure:"public_url" doc:"Where people reach the API, https://cloud.example.org, for the links in mails."`
	TLS               TLSConfig     `mapstructure:"tls"`
	CORSOrigins       []string      `mapstructure:"cors_origins" doc:"Origins of web pages that may use the API and open its websockets, https://ui.example.org. * is all of them, for websockets too, which still need a ticket or token. Read anew on SIGHUP."`
	TrustedProxies    []string      `mapstructure:"trusted_proxies" doc:"Addresses, or ranges like 10.1.2.0/28, of proxies that stand before the API. Of requests that come from there, X-Forwarded-For tells the client's address, which limits, sessions, log and audit trail go by. Read anew on SIGHUP."`
	ReadHeaderTimeout time.Duration `mapstructure:"read_header_timeout" doc:"A client has so long to send the head of a request."`
	IdleTimeout       time.Duration `mapstructure:"idle_timeout" doc:"An idle connection is closed after so long."`
	MaxHeaderBytes    int           `mapstructure:"max_header_bytes" doc:"The most the head of a request may have, in bytes."`
	DrainGrace        time.Duration `mapstructure:"drain_grace" doc:"At the end, requests that are being answered may take so long."`
}

// TLSConfig is about how the listener of the API proves who it is.
type TLSConfig struct {
	Auto         bool          `mapstructure:"auto" doc:"Make the certificate with an authority of our own, in the folder pki of data_dir, and renew it in time. Clients trust pki/ca.crt."`
	Names        []string      `mapstructure:"names" doc:"Host names and addresses for that certificate, besides localhost, the host name and the address of http.listen."`
	CertFile     string        `mapstructure:"cert_file" doc:"Certificate in PEM. It and its key may be replaced at any time; SIGHUP makes that take effect at once."`
	KeyFile      string        `mapstructure:"key_file" doc:"Its key."`
	ClientCAFile string        `mapstructure:"client_ca_file" doc:"If given, clients must show a certificate that one of these authorities signed. SIGHUP reads the file anew."`
	HSTS         time.Duration `mapstructure:"hsts" doc:"How long browsers shall insist on TLS. 0: they are not told."`
}

// GatewayConfig is about how requests are routed and limited. SIGHUP makes the server read it anew.
type GatewayConfig struct {
	Timeout   time.Duration      `mapstructure:"timeout" doc:"How long an answer may take on routes that have no timeout of their own; streams and requests with wait aside. 0: no limit. Read anew on SIGHUP, as everything below gateway."`
	RateLimit GatewayRatesConfig `mapstructure:"rate_limit"`
	Services  []GatewayService   `mapstructure:"services" doc:"Modules that run in other processes."`
	Routes    []GatewayRoute     `mapstructure:"routes" doc:"What holds for routes besides the built-in rules, which GET /api/v1/gateway/routes shows. The most specific path decides."`
}

// GatewayService is a module that runs in another process.
type GatewayService struct {
	Name        string        `mapstructure:"name" doc:"the module"`
	URLs        []string      `mapstructure:"urls" doc:"https://HOST:PORT of internal.listen of its processes"`
	Timeout     time.Duration `mapstructure:"timeout" doc:"how long it may take until the head of an answer"`
	Retries     int           `mapstructure:"retries" doc:"how often a request that may be repeated is sent again"`
	MaxInFlight int           `mapstructure:"max_in_flight" doc:"requests at once, 2000 if not given"`
	HTTP2       string        `mapstructure:"http2" doc:"auto speaks HTTP/2 with processes that do, off if not given, which costs less"`
	Breaker     struct {
		Failures int           `mapstructure:"failures" doc:"so many in a row and that process is left alone, 5 if not given"`
		OpenFor  time.Duration `mapstructure:"open_for" doc:"for so long, 5s if not given"`
	} `mapstructure:"circuit_breaker"`
}

// InternalConfig is about connections between the processes of one installation, which prove to each other who they are.
type InternalConfig struct {
	Listen   string   `mapstructure:"listen" doc:"HOST:PORT on which a process that runs one module without a gateway shows it to gateways. Empty: it does not."`
	CertFile string   `mapstructure:"cert_file" doc:"Certificate that this process shows to the others; 'novacron pki issue' makes one."`
	KeyFile  string   `mapstructure:"key_file" doc:"Its key."`
	CAFile   string   `mapstructure:"ca_file" doc:"Certificates of the authorities that issue those of the others; several may stand in it. Read anew within seconds, as the certificate and its key are."`
	Gateways []string `mapstructure:"gateways" doc:"Names in the certificates of gateways."`

	GRPCListen string         `mapstructure:"grpc_listen" doc:"HOST:PORT on which this process answers calls of modules in other processes. Empty: it does not."`
	Peers      []string       `mapstructure:"peers" doc:"Names in the certificates of processes that may make such calls. They are believed for whom they call."`
	Remotes    []RemoteModule `mapstructure:"remotes" doc:"Modules that modules of this process need and that run elsewhere. Today auth and vm can."`
}

// RemoteModule is where the contract of a module is served.
type RemoteModule struct {
	Module  string `mapstructure:"module" doc:"the module"`
	Address string `mapstructure:"address" doc:"HOST:PORT of internal.grpc_listen of its process"`
}

// Remote gives the address of a module's contract in another process; empty where none is configured.
func (c Config) Remote(module string) string {
	for _, r := range c.Internal.Remotes {
		if r.Module == module {
			return r.Address
		}
	}
	return ""
}

// GatewayRatesConfig is about limits that hold for all routes together.
type GatewayRatesConfig struct {
	User    string `mapstructure:"user" doc:"Requests of one user, those with API keys included: a number, / and second, minute or hour, or unlimited."`
	Key     string `mapstructure:"key" doc:"Requests with one API key, besides: so that no key takes all that its user may."`
	Tenant  string `mapstructure:"tenant" doc:"What all requests of one tenant may cost. An object that is read costs 1, a change or a list of 50 costs 5."`
	Address string `mapstructure:"address" doc:"Requests of one client address, or of one IPv6 network of 64 bits. A refused credential costs ten."`
}

// GatewayRoute is what holds for the routes below a path.
type GatewayRoute struct {
	Path         string        `mapstructure:"path" doc:"/api/vms/* is everything below /api/v1/vms, {x} any one segment"`
	Service      string        `mapstructure:"service" doc:"module that the routes belong to"`
	Methods      []string      `mapstructure:"methods" doc:"that it holds for; none: all"`
	AuthRequired bool          `mapstructure:"auth_required" doc:"credentials are needed, also where a route is public"`
	Permissions  []string      `mapstructure:"permissions" doc:"needed besides the routes' own; of a pair x:read, x:write GET needs the first, others the second"`
	RateLimit    string        `mapstructure:"rate_limit" doc:"100/minute of each caller"`
	Cost         int           `mapstructure:"cost" doc:"what a request takes of its tenant's rate"`
	CacheTTL     time.Duration `mapstructure:"cache_ttl" off:"true" doc:"how long an answer to GET may be given again; off: it is not, whatever less specific rules say"`
	Timeout      time.Duration `mapstructure:"timeout" off:"true" doc:"how long an answer may take; off: as long as it takes"`
	Retries      int           `mapstructure:"retries" off:"true" doc:"how often a request that may be repeated is sent again to another process; off: never, whatever the service says"`
	Deprecated   string        `mapstructure:"deprecated" doc:"day since which clients should use something else, 2026-12-31"`
	Sunset       string        `mapstructure:"sunset" doc:"day from which the route may be gone"`
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
	// Hold is short enough that whoever follows the log does not notice.
	Hold time.Duration `mapstructure:"hold" doc:"Lines of level info wait so long for others, to be written together; warnings and errors take those before them along at once. A process that is killed may lose what waits. 0: each line is written at once."`
}

// RuntimeConfig is about the process itself.
type RuntimeConfig struct {
	GCRoomBytes int64 `mapstructure:"gc_room_bytes" doc:"Garbage may take up so many bytes before it is collected, where less than that is in use; a process that uses more collects as Go does by itself. 0: always as Go does. The environment variable GOGC, where it is set, holds instead."`
}

// TelemetryConfig is about traces; metrics are always there, at /metrics.
type TelemetryConfig struct {
	Endpoint    string  `mapstructure:"otlp_endpoint" doc:"https://HOST:PORT of an OpenTelemetry collector that takes traces by OTLP over gRPC, or http://HOST:PORT for one on this host. Empty: no traces are made."`
	CAFile      string  `mapstructure:"otlp_ca_file" doc:"Certificates that the collector's is checked against. Empty: those of the system."`
	CertFile    string  `mapstructure:"otlp_cert_file" doc:"Certificate that is shown to the collector. Empty: none."`
	KeyFile     string  `mapstructure:"otlp_key_file" doc:"Its key."`
	SampleRatio float64 `mapstructure:"trace_sample_ratio" doc:"Which part of the requests is traced, from 0 to 1. Besides, at most ten requests a second are whose clients ask for it in traceparent."`
}

// AuthConfig is about identity.
type AuthConfig struct {
	AccessTTL       time.Duration `mapstructure:"access_ttl" doc:"How long an access token lives."`
	RefreshTTL      time.Duration `mapstructure:"refresh_ttl" doc:"How long a session lives unused."`
	SessionTTL      time.Duration `mapstructure:"session_ttl" doc:"How long a session lives, however much it is used."`
	KeyRotation     time.Duration `mapstructure:"key_rotation" doc:"How old the key that signs access tokens may become before the next one is made. 0: only when somebody asks."`
	KeyPublishDelay time.Duration `mapstructure:"key_publish_delay" doc:"How long a new key is published before it signs."`
	Issuer          string        `mapstructure:"issuer" doc:"Issuer that is written into tokens and asked of them."`
	Audience        string        `mapstructure:"audience" doc:"Audience that is written into tokens and asked of them."`

	AuditRetention     time.Duration      `mapstructure:"audit_retention" doc:"How long audit records are kept. 0: for ever."`
	OneTimePasswordTTL time.Duration      `mapstructure:"one_time_password_ttl" doc:"How long a one-time password works, which a new user gets or an administrator gives."`
	PasswordLinkTTL    time.Duration      `mapstructure:"password_link_ttl" doc:"How long a link to reset a password works."`
	SelfRegistration   RegistrationConfig `mapstructure:"self_registration"`
}

// MailConfig is about the SMTP server that mails go through.
type MailConfig struct {
	Host         string        `mapstructure:"host" doc:"Name of the SMTP server. Empty: no mail is sent, and administrators reset passwords. Needs http.public_url."`
	Port         int           `mapstructure:"port" doc:"Its port. 0: 587, with tls 465, with none 25."`
	TLS          string        `mapstructure:"tls" doc:"starttls (or no mail is sent), tls (from the first byte), or none, for a relay on this host."`
	CAFile       string        `mapstructure:"ca_file" doc:"Certificates that the server's is checked against. Empty: those of the system."`
	Username     string        `mapstructure:"username" doc:"User to log in as. Empty: nobody does."`
	Password     string        `mapstructure:"password" secret:"true" doc:"Their password."`
	PasswordFile string        `mapstructure:"password_file" doc:"File that holds mail.password."`
	From         string        `mapstructure:"from" doc:"Sender, NovaCron <novacron@example.org>."`
	HELO         string        `mapstructure:"helo" doc:"Name that this host gives to the server. Empty: its own."`
	Timeout      time.Duration `mapstructure:"timeout" doc:"How long each step of a conversation may take."`
}

// RegistrationConfig is about accounts that people make for themselves.
type RegistrationConfig struct {
	Enabled bool   `mapstructure:"enabled" doc:"Whether anybody who reaches the API may make an account, with the role user."`
	Tenant  string `mapstructure:"tenant" doc:"Name of the tenant that they join. Empty: each gets a tenant of their own, named like them."`
}

// VMConfig is about virtual machines.
type VMConfig struct {
	Roles          []string      `mapstructure:"roles" doc:"controller (API, database, operations), node (the hypervisor of this host), or both."`
	Libvirt        LibvirtConfig `mapstructure:"libvirt"`
	ShutdownGuests string        `mapstructure:"shutdown_guests" doc:"When the end of the node shuts its guests down, so that they come back in order at its next start: auto (where the host shuts down, as systemd tells), always, never."`
	DetachPatience time.Duration `mapstructure:"detach_patience" doc:"How long a running guest may take to let go of a disk that is detached; 1s to 10m."`
	StopGrace      time.Duration `mapstructure:"stop_grace" doc:"How long a guest may take to shut down before it is powered off."`
	ImageMaxBytes  int64         `mapstructure:"image_max_bytes" doc:"The most an uploaded image may have, in bytes."`
	UploadTTL      time.Duration `mapstructure:"image_upload_ttl" doc:"After so long without a part, an upload of an image in parts is given up; 1m to 720h."`
	ImageCache     int64         `mapstructure:"image_cache_bytes" doc:"What images may take on each node that no disk stands on and no machine has; those whose last use is longest ago make room. 0: no bound."`
	ImageImport    ImageImport   `mapstructure:"image_import"`
	NetworkPool    string        `mapstructure:"network_pool" doc:"IPv4 range that the tenants' default networks are cut from, a /24 each."`
	WebhookAllow   []string      `mapstructure:"webhook_allow" doc:"Ranges of addresses, 10.1.0.0/16, that webhooks of all tenants may send to though they are no public ones. Webhooks of platform administrators may send anywhere."`
	ReservationTTL time.Duration `mapstructure:"reservation_ttl" doc:"How long a place is held for a creation that has not begun."`
	GuestFileMax   int64         `mapstructure:"guest_file_max_bytes" doc:"The most a file may have that is passed to or from a guest through its agent, in bytes."`
	MetricsEvery   time.Duration `mapstructure:"metrics_interval" doc:"How often a node measures all its guests; 1s to 1h."`
	Drift          DriftConfig   `mapstructure:"drift"`
	MetricsPerVM   bool          `mapstructure:"metrics_per_vm" doc:"Whether /metrics has series for each guest. They come and go with guests."`
}

// DriftConfig is about differences between what should be and what nodes and scheduler hold.
type DriftConfig struct {
	Mode       string        `mapstructure:"mode" doc:"What is done about them without being asked. report: nothing. quarantine: what no row knows is set aside on its node, and edited definitions are given again. reap: and what was set aside for longer than retention is removed for good."`
	Interval   time.Duration `mapstructure:"interval" doc:"Between two audits; 1s to 24h."`
	Grace      time.Duration `mapstructure:"grace" doc:"How long a difference must have been there before anything is done about it."`
	Retention  time.Duration `mapstructure:"retention" doc:"In mode reap: how long what is set aside is kept."`
	MaxPerNode int           `mapstructure:"max_per_node" doc:"If more machines and volumes of a node have no row, none of them is set aside without being asked: that is how a database looks that was restored from an older backup."`
}

// ImageImport is about images that tenants have fetched from addresses they name.
type ImageImport struct {
	Hosts    []string `mapstructure:"hosts" doc:"Hosts that images are fetched from: names, *.example.org for all below it, * for any. None: nothing is fetched. Whatever the name, only public addresses are connected to, on ports 80 and 443."`
	Networks []string `mapstructure:"networks" doc:"Ranges of addresses that are not public and are connected to all the same, on any port: a mirror of one's own, 10.1.2.0/28."`
	MaxBytes int64    `mapstructure:"max_bytes" doc:"The most an imported image may have, in bytes. 0: as for uploads."`
}

// LibvirtConfig is about libvirt on this host.
type LibvirtConfig struct {
	URI              string `mapstructure:"uri" doc:"Connection URI of libvirt."`
	NetworkNamespace string `mapstructure:"network_namespace" doc:"Path of the network name space that libvirtd lives in, where guests are protected too. Empty: NovaCron's own."`
	Accel            string `mapstructure:"accel" doc:"kvm, tcg (emulation, slow), or auto: kvm where the processor and /dev/kvm offer it."`
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
