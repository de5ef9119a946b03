package service

import (
	"bufio"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Test hashes of the password "test", made by mkpasswd and htpasswd.
const (
	sha512Hash   = "$6$Kf1Jm2Zx$k7b3w5r8QhVqk0jD2mC1nP9sT4uY6iO8aS1dF3gH5jK7lZ9xC2vB4nM6qW8eR0tY2uI4oP6aS8dF0gH2jK4lZ."
	yescryptHash = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
	bcryptHash   = "$2b$12$abcdefghijklmnopqrstuuSx0ErYq1qmU1u3aBBG3P6Jm0Nq0vSS"
)

func refusal(t *testing.T, err error) string {
	t.Helper()
	var problem *errs.Error
	if !errors.As(err, &problem) || len(problem.Fields) != 1 {
		t.Fatalf("refused with %+v", err)
	}
	return problem.Fields[0].Location + ": " + problem.Fields[0].Message
}

func TestCheckCloudInit(t *testing.T) {
	for name, test := range map[string]struct {
		given   vm.CloudInit
		config  string // that is kept
		refusal string
	}{
		"nothing":                {},
		"version 2":              {given: vm.CloudInit{NetworkConfig: "version: 2\nethernets: {e0: {dhcp4: true}}\n"}, config: "version: 2\nethernets: {e0: {dhcp4: true}}\n"},
		"version 1":              {given: vm.CloudInit{NetworkConfig: "version: 1\nconfig: []\n"}, config: "version: 1\nconfig: []\n"},
		"as in a guest's files":  {given: vm.CloudInit{NetworkConfig: "network:\n  version: 2\n"}, config: "version: 2\n"},
		"sha-512":                {given: vm.CloudInit{PasswordHash: sha512Hash}},
		"yescrypt":               {given: vm.CloudInit{PasswordHash: yescryptHash}},
		"bcrypt":                 {given: vm.CloudInit{PasswordHash: bcryptHash}},
		"a password":             {given: vm.CloudInit{PasswordHash: "correct horse battery staple"}, refusal: "body.password_hash: must be a hash"},
		"md5":                    {given: vm.CloudInit{PasswordHash: "$1$abcdefgh$abcdefghijklmnopqrstuv"}, refusal: "body.password_hash"},
		"a second line":          {given: vm.CloudInit{PasswordHash: sha512Hash + "\nroot:x"}, refusal: "body.password_hash"},
		"vendor-data of no kind": {given: vm.CloudInit{VendorData: "hello"}, refusal: "body.vendor_data: is of no kind that cloud-init knows"},
		"broken vendor-data":     {given: vm.CloudInit{VendorData: "#cloud-config\na: [b\n"}, refusal: "body.vendor_data: is not valid YAML: line"},
		"no version":             {given: vm.CloudInit{NetworkConfig: "ethernets: {}\n"}, refusal: "body.network_config: must have version"},
		"version 3":              {given: vm.CloudInit{NetworkConfig: "version: 3\n"}, refusal: "body.network_config: must have version"},
		"a list":                 {given: vm.CloudInit{NetworkConfig: "- version: 2\n"}, refusal: "body.network_config: must hold a mapping"},
		"empty":                  {given: vm.CloudInit{NetworkConfig: "# nothing\n"}, refusal: "body.network_config: must hold a mapping"},
		"broken":                 {given: vm.CloudInit{NetworkConfig: "version: 2\nethernets:\n  a: [\n"}, refusal: "body.network_config: is not valid YAML: line"},
		"devices in a list":      {given: vm.CloudInit{NetworkConfig: "version: 2\nethernets:\n  - a\n"}, refusal: "line 3: ethernets must be a mapping"},
		"a device that is none":  {given: vm.CloudInit{NetworkConfig: "version: 2\nethernets:\n  a: 1\n"}, refusal: "line 3: a must be a mapping"},
		"an endless alias":       {given: vm.CloudInit{NetworkConfig: "version: 2\nethernets: &a\n  b: *a\n"}, refusal: "aliases"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := checkCloudInit(test.given, "body.", vm.ErrInvalid)
			switch {
			case test.refusal != "":
				if err == nil || !strings.Contains(refusal(t, err), test.refusal) {
					t.Errorf("refused with %+v", err)
				}
			case err != nil || got.NetworkConfig != test.config:
				t.Errorf("kept %+v, %v", got, err)
			}
		})
	}
}

func TestVendorDataWithPassword(t *testing.T) {
	given := "#!/bin/sh\necho vendor\n"
	text, err := vendorData(vm.CloudInit{VendorData: given, PasswordHash: yescryptHash})
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(strings.NewReader(text))
	header, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(r, params["boundary"])
	var bodies []string
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	if len(bodies) != 2 || strings.TrimSpace(bodies[0]) != strings.TrimSpace(given) || !strings.HasPrefix(bodies[1], "#cloud-config\n") {
		t.Fatalf("the parts are %q", bodies)
	}
	var config struct {
		User struct {
			Hash string `yaml:"hashed_passwd"`
			Lock *bool  `yaml:"lock_passwd"`
		}
	}
	if err := yaml.Unmarshal([]byte(bodies[1]), &config); err != nil || config.User.Hash != yescryptHash || config.User.Lock == nil || *config.User.Lock {
		t.Errorf("the password is given as %q: %v", bodies[1], err)
	}
	if _, err := checkCloudInit(vm.CloudInit{VendorData: "#!/bin/sh\n" + partBoundary, PasswordHash: yescryptHash}, "body.", vm.ErrInvalid); err == nil {
		t.Error("vendor-data may hold the line that parts it from the password")
	}
}

func TestNetworkConfig(t *testing.T) {
	network := func(change func(*vm.Network)) store.NetworkRecord {
		n := vm.Network{Mode: vm.NetworkNAT, CIDR: "10.1.0.0/24", Gateway: "10.1.0.1", DHCP: &vm.DHCP{Start: "10.1.0.10", End: "10.1.0.20"}}
		change(&n)
		return store.NetworkRecord{Network: n}
	}
	text, err := networkConfig(
		[]vm.Interface{{MAC: "52:54:00:00:00:01", IPAddress: "10.1.0.10"}, {MAC: "52:54:00:00:00:02", IPAddress: "10.2.0.5"}, {MAC: "52:54:00:00:00:03"},
			{MAC: "52:54:00:00:00:04", IPAddress: "10.4.0.7"}, {MAC: "52:54:00:00:00:05", IPAddress: "10.1.0.11"}},
		[]store.NetworkRecord{
			network(func(n *vm.Network) { n.IPv6CIDR = "fd00::/64" }),
			network(func(n *vm.Network) { n.CIDR, n.Gateway, n.DHCP = "10.2.0.0/24", "10.2.0.1", nil }),
			network(func(n *vm.Network) { *n = vm.Network{Mode: vm.NetworkBridge} }),
			network(func(n *vm.Network) {
				n.Mode, n.CIDR, n.Gateway, n.DHCP = vm.NetworkIsolated, "10.4.0.0/16", "10.4.0.1", nil
			}),
			network(func(*vm.Network) {}),
		})
	if err != nil {
		t.Fatal(err)
	}
	const want = `version: 2
ethernets:
    eth0:
        match:
            macaddress: "52:54:00:00:00:01"
        set-name: eth0
        dhcp4: true
        accept-ra: true
    eth1:
        match:
            macaddress: "52:54:00:00:00:02"
        set-name: eth1
        dhcp4: false
        optional: true
        addresses:
            - 10.2.0.5/24
        routes:
            - to: 0.0.0.0/0
              via: 10.2.0.1
              metric: 200
        nameservers:
            addresses:
                - 10.2.0.1
    eth2:
        match:
            macaddress: "52:54:00:00:00:03"
        set-name: eth2
        dhcp4: true
        dhcp4-overrides:
            route-metric: 300
        accept-ra: true
        optional: true
    eth3:
        match:
            macaddress: "52:54:00:00:00:04"
        set-name: eth3
        dhcp4: false
        optional: true
        addresses:
            - 10.4.0.7/16
        nameservers:
            addresses:
                - 10.4.0.1
    eth4:
        match:
            macaddress: "52:54:00:00:00:05"
        set-name: eth4
        dhcp4: true
        dhcp4-overrides:
            route-metric: 500
        optional: true
`
	if text != want {
		t.Errorf("made\n%s", text)
	}
	if kept, err := checkNetworkConfig(text, "f", vm.ErrInvalid); err != nil || kept != text {
		t.Errorf("what is made is refused: %v", err)
	}
}
