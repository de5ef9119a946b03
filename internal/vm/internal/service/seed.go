package service

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// metaData is the NoCloud meta-data document (cloud-init documentation, "NoCloud").
type metaData struct {
	InstanceID    string   `yaml:"instance-id"`
	LocalHostname string   `yaml:"local-hostname"`
	PublicKeys    []string `yaml:"public-keys,omitempty"`
}

// seedFor makes the NoCloud seed of a virtual machine.
func (s *Service) seedFor(ctx context.Context, r store.Record) (nodeapi.SeedSpec, error) {
	meta := metaData{InstanceID: r.ID.String(), LocalHostname: r.CloudInit.Hostname, PublicKeys: r.SSHKeys}
	if meta.LocalHostname == "" {
		meta.LocalHostname = r.Name
	}
	encoded, err := yaml.Marshal(meta)
	if err != nil {
		return nodeapi.SeedSpec{}, fmt.Errorf("encode meta-data: %w", err)
	}
	seed := nodeapi.SeedSpec{MetaData: string(encoded), UserData: r.UserData, NetworkConfig: r.CloudInit.NetworkConfig}
	if seed.VendorData, err = vendorData(r.CloudInit); err != nil {
		return seed, err
	}
	if seed.UserData == "" {
		if seed.UserData, err = keysOnly(r.SSHKeys); err != nil {
			return seed, err
		}
	}
	if seed.NetworkConfig == "" {
		networks := make([]store.NetworkRecord, len(r.Networks))
		for i, nic := range r.Networks {
			if networks[i], err = s.store.GetNetwork(ctx, nic.NetworkID); err != nil {
				return seed, err
			}
		}
		seed.NetworkConfig, err = networkConfig(r.Networks, networks)
	}
	return seed, err
}

// keysOnly is the user-data of one who gave none; guests with a small cloud-init of their own look for keys in user-data alone.
func keysOnly(keys []string) (string, error) {
	const header = "#cloud-config\n"
	if len(keys) == 0 {
		return header, nil
	}
	encoded, err := yaml.Marshal(map[string][]string{"ssh_authorized_keys": keys})
	if err != nil {
		return "", fmt.Errorf("encode user-data: %w", err)
	}
	return header + string(encoded), nil
}

// vendorData adds the password of the default user to what was given. It goes by the key "user", because the older key "password" takes some
// hashes for the password itself (cloud-init documentation, "Set Passwords" and "Users and Groups").
func vendorData(c vm.CloudInit) (string, error) {
	if c.PasswordHash == "" {
		return c.VendorData, nil
	}
	user := map[string]any{"user": map[string]any{"hashed_passwd": c.PasswordHash, "lock_passwd": false}}
	encoded, err := yaml.Marshal(user)
	if err != nil {
		return "", fmt.Errorf("encode vendor-data: %w", err)
	}
	password := "#cloud-config\n" + string(encoded)
	if c.VendorData == "" {
		return password, nil
	}
	return joinParts(c.VendorData, password)
}

// Where the parts of a multipart document end: long and odd enough that none holds it by accident.
const partBoundary = "==novacron-cloud-init-5f2c1d7e9b=="

// joinParts puts documents of cloud-init into one (RFC 2046, section 5.1). It tells their kinds by their first lines.
func joinParts(parts ...string) (string, error) {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=\"" + partBoundary + "\"\nMIME-Version: 1.0\n\n")
	for _, part := range parts {
		if strings.Contains(part, partBoundary) {
			return "", vm.ErrInvalid.WithField("body.vendor_data", "holds the line that parts it from the password", "")
		}
		b.WriteString("--" + partBoundary + "\nContent-Type: text/plain; charset=\"utf-8\"\nMIME-Version: 1.0\n\n" + part + "\n")
	}
	b.WriteString("--" + partBoundary + "--\n")
	return b.String(), nil
}

// The parts of network-config version 2 that are made here (cloud-init documentation, "Networking config Version 2").
type networkConfigV2 struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
}

type ethernet struct {
	Match struct {
		MAC string `yaml:"macaddress"`
	} `yaml:"match"`
	SetName       string        `yaml:"set-name"`
	DHCP4         bool          `yaml:"dhcp4"`
	DHCP4Override *dhcpOverride `yaml:"dhcp4-overrides,omitempty"`
	AcceptRA      bool          `yaml:"accept-ra,omitempty"`
	Optional      bool          `yaml:"optional,omitempty"`
	Addresses     []string      `yaml:"addresses,omitempty"`
	Routes        []route       `yaml:"routes,omitempty"`
	Nameservers   *nameservers  `yaml:"nameservers,omitempty"`
}

type dhcpOverride struct {
	RouteMetric int `yaml:"route-metric"`
}

type route struct {
	To     string `yaml:"to"`
	Via    string `yaml:"via"`
	Metric int    `yaml:"metric,omitempty"`
}

type nameservers struct {
	Addresses []string `yaml:"addresses"`
}

// metricStep keeps the interfaces in their order when they compete for the way outside.
const metricStep = 100

// networkConfig configures all interfaces of a guest. Without one, cloud-init configures the first alone. The interfaces get names, because what
// cloud-init makes of this for networkd and ifupdown looks for the names that are told here, whatever the kernel calls them (22.4).
func networkConfig(nics []vm.Interface, networks []store.NetworkRecord) (string, error) {
	config := networkConfigV2{Version: 2, Ethernets: map[string]ethernet{}}
	for i, nic := range nics {
		n := networks[i]
		e := ethernet{AcceptRA: n.IPv6CIDR != "" || n.Mode == vm.NetworkBridge, Optional: i > 0}
		e.Match.MAC = nic.MAC
		prefix, err := netip.ParsePrefix(n.CIDR)
		if n.DHCP != nil || nic.IPAddress == "" || err != nil { // on a bridge of the node somebody else gives out addresses
			e.DHCP4 = n.DHCP != nil || n.Mode == vm.NetworkBridge
			if i > 0 && e.DHCP4 {
				e.DHCP4Override = &dhcpOverride{RouteMetric: metricStep * (i + 1)}
			}
		} else {
			e.Addresses = []string{fmt.Sprintf("%s/%d", nic.IPAddress, prefix.Bits())}
			if n.Gateway != "" {
				e.Nameservers = &nameservers{Addresses: []string{n.Gateway}}
			}
			if n.Gateway != "" && n.Mode != vm.NetworkIsolated {
				e.Routes = []route{{To: "0.0.0.0/0", Via: n.Gateway, Metric: metricStep * (i + 1)}}
			}
		}
		e.SetName = fmt.Sprintf("eth%d", i)
		config.Ethernets[e.SetName] = e
	}
	encoded, err := yaml.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encode network-config: %w", err)
	}
	return string(encoded), nil
}
