package vmmodule

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/imagefetch"
	"github.com/novacron/novacron/internal/vm/internal/node/firewall"
	"github.com/novacron/novacron/internal/vm/internal/webhook"
)

// The roles of the module.
const (
	RoleController = "controller" // API, database, sagas
	RoleNode       = "node"       // the local hypervisor; needs no database
)

// When the end of a node shuts its guests down, so that they come back in order at its next start.
const (
	GuestsAuto   = "auto"   // where the host itself shuts down, as systemd tells
	GuestsAlways = "always" // at every end, for hosts that stop the service in no other case
	GuestsNever  = "never"
)

// Config is what the module is told at start.
type Config struct {
	DataDir     string // images, disks, journal and sockets lie below it
	DatabaseURL string // of a login that may create the module's role and schema; controller only
	MaxConns    int32  // connections to the database; 0: the pool's default
	// Owner names this process in the leases of operations. It stays the same over restarts, so that a new process goes on at once with
	// what a killed one held; the lock on the data folder keeps two processes from sharing it.
	Owner string
	Roles []string // RoleController, RoleNode or both

	NodeName   string // how the node role calls itself
	LibvirtURI string // "qemu:///system"
	Accel      string // auto, kvm or tcg
	// NetworkNamespace is the path of the network name space that libvirtd lives in; empty: this process's own.
	NetworkNamespace string
	agentPatience    time.Duration    // with guest agents; 0, except in tests: the node's own
	run              firewall.Command // runs programs of the host; nil, except in tests: really

	DetachPatience time.Duration // how long a guest may take to let go of a disk
	// ShutdownGuests says when the end of the node shuts its guests down: GuestsAuto, GuestsAlways or GuestsNever.
	ShutdownGuests    string
	StopGrace         time.Duration // how long a guest may take to shut down before it is powered off
	MaxImageBytes     int64         // the most an upload may have
	UploadTTL         time.Duration // after so long without a part an upload in parts is given up
	ImageCacheBytes   int64         // what images may take on the node that nothing uses; 0: no bound
	ImportHosts       []string      // that images are fetched from; "*" is any, "*.example.org" any below it
	ImportNetworks    []string      // ranges that are not public and allowed all the same
	ImportMaxBytes    int64         // the most an imported image may have; 0: MaxImageBytes
	NetworkPool       string        // CIDR that default networks are cut from, a /24 each
	HeartbeatInterval time.Duration // of the node role
	MetricsInterval   time.Duration // between two measurements of all guests of the node
	MetricsPerVM      bool          // whether Prometheus sees series for each guest
	GuestFileMax      int64         // bytes of a file that is passed to or from a guest
	ReservationTTL    time.Duration // how long a place is held for a creation that has not confirmed it
	Version           string        // of the binary, for heartbeats
	DriftMode         vm.DriftMode  // what is done about drift without being asked
	DriftInterval     time.Duration // between two audits
	DriftGrace        time.Duration // how long a difference must have been there before it is put right
	DriftRetention    time.Duration // how long what is set aside is kept in mode reap
	DriftMaxPerNode   int           // more machines and volumes without a row are not set aside without being asked
	// WebhookAllow are ranges of addresses that webhooks may reach though they are no public ones.
	WebhookAllow []string
	webhooks     webhook.Config // paces; zero, except in tests: the usual ones
}

// Default gives the configuration of a single host.
func Default() Config {
	return Config{
		Roles: []string{RoleController, RoleNode}, LibvirtURI: "qemu:///system", Accel: "auto",
		ShutdownGuests: GuestsAuto, DetachPatience: 30 * time.Second, StopGrace: 60 * time.Second, MaxImageBytes: 64 << 30, NetworkPool: "10.100.0.0/14", HeartbeatInterval: 5 * time.Second,
		ReservationTTL: 10 * time.Minute, UploadTTL: 24 * time.Hour, ImageCacheBytes: 50 << 30, ImportHosts: []string{"*"}, ImportNetworks: []string{},
		MetricsInterval: 10 * time.Second, GuestFileMax: 1 << 30,
		DriftMode: vm.DriftModeQuarantine, DriftInterval: time.Minute, DriftGrace: 15 * time.Minute, DriftRetention: 7 * 24 * time.Hour, DriftMaxPerNode: 10,
	}
}

// webhookRanges are the ranges of WebhookAllow; Validate has found the mistakes.
func (c Config) webhookRanges() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.WebhookAllow {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// Validate lists every mistake.
func (c Config) Validate() []error {
	var failed []error
	bad := func(path, format string, args ...any) {
		failed = append(failed, fmt.Errorf("vm.%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if len(c.Roles) == 0 {
		bad("roles", "must name controller, node or both")
	}
	for _, role := range c.Roles {
		if role != RoleController && role != RoleNode {
			bad("roles", "%q is neither controller nor node", role)
		}
	}
	if !slices.Contains([]string{"auto", "kvm", "tcg"}, c.Accel) {
		bad("libvirt.accel", "%q is none of auto, kvm, tcg", c.Accel)
	}
	if c.NetworkNamespace != "" && !filepath.IsAbs(c.NetworkNamespace) {
		bad("libvirt.network_namespace", "%q is no absolute path", c.NetworkNamespace)
	}
	if !slices.Contains([]string{GuestsAuto, GuestsAlways, GuestsNever}, c.ShutdownGuests) {
		bad("shutdown_guests", "%q is none of auto, always, never", c.ShutdownGuests)
	}
	if c.LibvirtURI == "" {
		bad("libvirt.uri", "must not be empty")
	}
	for i, text := range c.WebhookAllow {
		if _, err := netip.ParsePrefix(text); err != nil {
			bad(fmt.Sprintf("webhook_allow[%d]", i), "%q is no range such as 10.1.0.0/16", text)
		}
	}
	if c.DetachPatience < time.Second || c.DetachPatience > 10*time.Minute {
		bad("detach_patience", "must be from 1s to 10m")
	}
	if c.StopGrace < 0 || c.StopGrace > time.Hour {
		bad("stop_grace", "must be from 0 to 1h")
	}
	if c.MetricsInterval < time.Second || c.MetricsInterval > time.Hour {
		bad("metrics_interval", "must be from 1s to 1h")
	}
	if !slices.Contains(vm.DriftModes(), c.DriftMode) {
		bad("drift.mode", "%q is none of report, quarantine, reap", c.DriftMode)
	}
	if c.DriftInterval < time.Second || c.DriftInterval > 24*time.Hour {
		bad("drift.interval", "must be from 1s to 24h")
	}
	if c.DriftGrace < 0 || c.DriftRetention < 0 || c.DriftMaxPerNode < 0 {
		bad("drift", "grace, retention and max_per_node must not be negative")
	}
	if c.GuestFileMax < 1<<20 {
		bad("guest_file_max_bytes", "must be at least 1 MiB")
	}
	if c.MaxImageBytes < 1<<20 {
		bad("image_max_bytes", "must be at least 1 MiB")
	}
	if c.UploadTTL < time.Minute || c.UploadTTL > 720*time.Hour {
		bad("image_upload_ttl", "must be from 1m to 720h")
	}
	if c.ImageCacheBytes < 0 {
		bad("image_cache_bytes", "must not be negative")
	}
	if c.ImportMaxBytes < 0 {
		bad("image_import.max_bytes", "must not be negative")
	}
	if _, err := c.importRules(); err != nil {
		bad("image_import.networks", "%v", err)
	}
	for i, host := range c.ImportHosts {
		if name := strings.TrimPrefix(host, "*."); host != "*" && (name == "" || strings.ContainsAny(name, "*/:@ ")) {
			bad(fmt.Sprintf("image_import.hosts[%d]", i), "%q is neither a host, nor *.DOMAIN, nor *", host)
		}
	}
	if pool, err := netip.ParsePrefix(c.NetworkPool); err != nil || !pool.Addr().Is4() || pool.Bits() > 24 || pool != pool.Masked() {
		bad("network_pool", "%q is not an IPv4 range of /24 or more", c.NetworkPool)
	}
	return failed
}

// importRules says where images may be fetched from.
func (c Config) importRules() (imagefetch.Rules, error) {
	rules := imagefetch.Rules{Hosts: c.ImportHosts, MaxBytes: c.MaxImageBytes}
	if c.ImportMaxBytes > 0 {
		rules.MaxBytes = min(c.ImportMaxBytes, c.MaxImageBytes)
	}
	for _, text := range c.ImportNetworks {
		network, err := netip.ParsePrefix(text)
		if err != nil || network != network.Masked() {
			return rules, fmt.Errorf("%q is not a range of addresses", text)
		}
		rules.Networks = append(rules.Networks, network)
	}
	return rules, nil
}

func (c Config) has(role string) bool { return slices.Contains(c.Roles, role) }
