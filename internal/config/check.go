package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check finds what no single field shows.
func (c Config) check() []error {
	var failed []error
	bad := func(path, format string, args ...any) {
		failed = append(failed, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if !filepath.IsAbs(c.DataDir) {
		bad("data_dir", "%q is not an absolute path", c.DataDir)
	}
	for i, name := range c.Modules {
		switch {
		case name == "all" && len(c.Modules) > 1:
			bad("modules", "all stands alone")
		case name != "all" && !slices.Contains(ModuleNames(), name):
			bad("modules", "%q is none of %s", name, strings.Join(ModuleNames(), ", "))
		case slices.Index(c.Modules, name) < i:
			bad("modules", "%s is given twice", name)
		}
	}
	if err := hostPort(c.HTTP.Listen, true); err != nil {
		bad("http.listen", "%v", err)
	}
	for name, r := range c.remotes() {
		if err := hostPort(r.Address, false); r.Address != "" && err != nil {
			bad("remotes."+name+".address", "%v", err)
		}
	}
	if u := c.Database.URL; u != "" && !strings.HasPrefix(u, "postgres://") && !strings.HasPrefix(u, "postgresql://") {
		bad("database.url", "must begin with postgres://") // the value stays unsaid: it is a secret
	}
	if u := c.Redis.URL; u != "" && !strings.HasPrefix(u, "redis://") && !strings.HasPrefix(u, "rediss://") && !strings.HasPrefix(u, "unix://") {
		bad("redis.url", "must begin with redis://, rediss:// or unix://")
	}
	if c.Auth.RefreshTTL < c.Auth.AccessTTL {
		bad("auth.refresh_ttl", "%s must not be below access_ttl, %s", c.Auth.RefreshTTL, c.Auth.AccessTTL)
	}
	if c.Auth.SessionTTL < c.Auth.RefreshTTL {
		bad("auth.session_ttl", "%s must not be below refresh_ttl, %s", c.Auth.SessionTTL, c.Auth.RefreshTTL)
	}
	for path, v := range map[string]string{"auth.issuer": c.Auth.Issuer, "auth.audience": c.Auth.Audience, "vm.libvirt.uri": c.VM.Libvirt.URI} {
		if v == "" {
			bad(path, "must not be empty")
		}
	}
	if pool, err := netip.ParsePrefix(c.VM.NetworkPool); err != nil || !pool.Addr().Is4() || pool.Bits() > 24 || pool != pool.Masked() {
		bad("vm.network_pool", "%q is not an IPv4 range of /24 or larger, such as 10.100.0.0/14", c.VM.NetworkPool)
	}
	if c.Scheduler.NodeTimeout < 2*c.VM.HeartbeatInterval {
		bad("scheduler.node_timeout", "%s must be at least twice vm.heartbeat_interval, %s", c.Scheduler.NodeTimeout, c.VM.HeartbeatInterval.Truncate(time.Millisecond))
	}
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return failed
}

func hostPort(s string, anyPort bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || (n == 0 && !anyPort) || (host == "" && !anyPort) {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	return nil
}

func (c Config) remotes() map[string]Remote {
	return map[string]Remote{"auth": c.Remotes.Auth, "vm": c.Remotes.VM, "federation": c.Remotes.Federation, "monitoring": c.Remotes.Monitoring,
		"scheduler": c.Remotes.Scheduler}
}

// RemoteAddress gives where a module runs that this process does not run; empty where that is not configured.
func (c Config) RemoteAddress(module string) string { return c.remotes()[module].Address }

// Enabled lists the modules that this process runs, all of them for "all".
func (c Config) Enabled() []string {
	if slices.Equal(c.Modules, []string{"all"}) {
		return ModuleNames()
	}
	return slices.Clone(c.Modules)
}
