package libvirt

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func fixedDomain() driver.DomainDef {
	return driver.DomainDef{
		VMID:           uuid.MustParse("0199aaaa-0000-7000-8000-000000000001"),
		InstallationID: uuid.MustParse("0199aaaa-0000-7000-8000-000000000002"),
		TenantID:       uuid.MustParse("0199aaaa-0000-7000-8000-000000000003"),
		Name:           `web <&"'> 1`, Generation: 7, VCPUs: 2, MemoryBytes: 256 << 20,
		Disks: []driver.Disk{
			{Path: "/var/lib/novacron/node/disks/1/root.qcow2", Backing: "/var/lib/novacron/node/images/ab.qcow2"},
			{Path: "/var/lib/novacron/node/disks/1/data & more.qcow2"},
		},
		SeedPath:   "/var/lib/novacron/node/disks/1/seed.iso",
		NICs:       []nodeapi.NIC{{NetworkID: uuid.MustParse("0199aaaa-0000-7000-8000-000000000004"), MAC: "52:54:00:00:00:01"}},
		ConsoleLog: "/var/lib/novacron/node/disks/1/console.log",
	}
}

func fixedNetwork(mode string, dhcp bool) driver.NetworkDef {
	def := driver.NetworkDef{
		ID:             uuid.MustParse("0199aaaa-0000-7000-8000-000000000004"),
		InstallationID: uuid.MustParse("0199aaaa-0000-7000-8000-000000000002"),
		Name:           "lan <1>", Mode: mode, Bridge: "nova0199aaaa", CIDR: "10.77.0.0/24", Gateway: "10.77.0.1",
	}
	if dhcp {
		def.DHCPStart, def.DHCPEnd = "10.77.0.10", "10.77.0.250"
	}
	return def
}

// TestXML compares every kind of document with its golden file and has libvirt's own schemas check it.
func TestXML(t *testing.T) {
	bare := fixedDomain()
	bare.Disks, bare.SeedPath, bare.NICs = bare.Disks[1:], "", nil
	withVolumes := fixedDomain()
	withVolumes.Disks = withVolumes.Disks[:1]
	withVolumes.Volumes = []driver.Disk{
		{Path: "/var/lib/novacron/node/volumes/1.qcow2", Format: "qcow2", Serial: "0199aaaa-0000-7000-8000-000000000005", Backing: "/var/lib/novacron/node/images/ab.qcow2"},
		{Path: "/var/lib/novacron/node/volumes/2.raw", Format: "raw", Serial: "0199aaaa-0000-7000-8000-000000000006"},
	}
	chosen := fixedDomain()
	chosen.Volumes, chosen.NetworkBoot, chosen.Autostart = withVolumes.Volumes, 1, 5
	chosen.Disks = []driver.Disk{{Path: chosen.Disks[0].Path, Boot: 2, Limits: nodeapi.IOLimits{ReadIOPS: 100, WriteBPS: 1 << 20}}}
	chosen.Hardware = nodeapi.Hardware{CPUModel: "host-model", Sockets: 1, Cores: 2, Threads: 2, Watchdog: "i6300esb", WatchdogAction: "reset"}
	installing := fixedDomain()
	installing.Disks, installing.Drive, installing.Disc = installing.Disks[1:], true, "/var/lib/novacron/node/disks/1/media-ab.iso"
	direct := fixedDomain()
	direct.Drive, direct.DriveBoot, direct.Kernel, direct.Initrd = true, 1, "/var/lib/novacron/node/disks/1/media-cd.boot", "/var/lib/novacron/node/disks/1/media-ef.boot"
	direct.CommandLine = `root=/dev/vda1 console=ttyS0 x="<&'>"`
	large := fixedDomain()
	large.MemoryBytes = 2 << 30
	network := func(mode string, dhcp bool) func() (string, error) {
		return func() (string, error) {
			n, err := networkOf(fixedNetwork(mode, dhcp), "")
			if err != nil {
				return "", err
			}
			return n.Marshal()
		}
	}
	for name, c := range map[string]struct {
		schema string
		make   func() (string, error)
	}{
		"domain-tcg":       {"domain", func() (string, error) { return domainXML(fixedDomain(), AccelTCG) }},
		"domain-kvm":       {"domain", func() (string, error) { return domainXML(fixedDomain(), AccelKVM) }},
		"domain-large":     {"domain", func() (string, error) { return domainXML(large, AccelKVM) }},
		"domain-volumes":   {"domain", func() (string, error) { return domainXML(withVolumes, AccelTCG) }},
		"domain-chosen":    {"domain", func() (string, error) { return domainXML(chosen, AccelTCG) }},
		"domain-disc":      {"domain", func() (string, error) { return domainXML(installing, AccelTCG) }},
		"domain-direct":    {"domain", func() (string, error) { return domainXML(direct, AccelTCG) }},
		"domain-bare":      {"domain", func() (string, error) { return domainXML(bare, AccelTCG) }},
		"network-nat":      {"network", network(driver.ModeNAT, true)},
		"network-isolated": {"network", network(driver.ModeIsolated, false)},
		"network-ipv6": {"network", func() (string, error) {
			def := fixedNetwork(driver.ModeIsolated, true)
			def.CIDR6, def.Gateway6 = "fd00:77::/64", "fd00:77::1"
			n, err := networkOf(def, "/var/lib/novacron/node/leases/4")
			if err != nil {
				return "", err
			}
			return n.Marshal()
		}},
		"network-routed": {"network", func() (string, error) {
			def := fixedNetwork(driver.ModeRouted, true)
			def.CIDR6, def.Gateway6 = "fd12:3456:789a:1::/64", "fd12:3456:789a:1::1"
			n, err := networkOf(def, "")
			if err != nil {
				return "", err
			}
			return n.Marshal()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.make()
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(golden, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
				t.Errorf("differs from %s (-want +got); rewrite it with -update if that is meant:\n%s", golden, diff)
			}
			out, err := exec.Command("virt-xml-validate", golden, c.schema).CombinedOutput()
			if err != nil {
				t.Errorf("virt-xml-validate: %v\n%s", err, out)
			}
		})
	}
}

func TestMetadataIsFoundAmongForeignOnes(t *testing.T) {
	def := fixedDomain()
	text, err := domainXML(def, AccelTCG)
	if err != nil {
		t.Fatal(err)
	}
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	inner := `<x:a xmlns:x="http://example.org/"><x:domain/></x:a> ` + dom.Metadata.XML + `<b xmlns="http://example.org/"/>`
	got, ok := readMetadata[domainMetadata](inner, "domain")
	if !ok || got.Name != def.Name || got.VM != def.VMID || got.Installation != def.InstallationID || got.Generation != 7 {
		t.Errorf("read %+v, %v", got, ok)
	}
	for _, foreign := range []string{"", `<a xmlns="http://example.org/"/>`, "<domain/>", "<broken"} {
		if got, ok := readMetadata[domainMetadata](foreign, "domain"); ok {
			t.Errorf("read %+v from %q", got, foreign)
		}
	}
}

func TestChooseAccel(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	intel := file("intel", "processor\t: 0\nflags\t\t: fpu vmx sse2\n")
	amd := file("amd", "flags\t\t: fpu svm\n")
	none := file("none", "flags\t\t: fpu hypervisor svmish\nbugs\t\t: vmx\n")
	device := file("kvm", "")
	for _, c := range []struct {
		cpuinfo, device string
		want            Accel
	}{
		{intel, device, AccelKVM},
		{amd, device, AccelKVM},
		{none, device, AccelTCG},
		{intel, filepath.Join(dir, "absent"), AccelTCG},
		{filepath.Join(dir, "absent"), device, AccelTCG},
	} {
		if got := chooseAccel(c.cpuinfo, c.device); got != c.want {
			t.Errorf("chooseAccel(%s, %s) = %s, want %s", c.cpuinfo, c.device, got, c.want)
		}
	}
	if ChooseAccel(AccelKVM) != AccelKVM || ChooseAccel(AccelTCG) != AccelTCG {
		t.Error("what is configured must win")
	}
}

func TestDiskName(t *testing.T) {
	for i, want := range map[int]string{0: "vda", 25: "vdz", 26: "vdaa", 27: "vdab", 702: "vdaaa"} {
		if got := diskName(i); got != want {
			t.Errorf("diskName(%d) = %s, want %s", i, got, want)
		}
	}
}

func TestSameNetworkSeesThroughNotation(t *testing.T) {
	a, err := networkOf(fixedNetwork(driver.ModeNAT, true), "")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := networkOf(fixedNetwork(driver.ModeNAT, true), "")
	b.IPs[0].Prefix, b.IPs[0].Netmask = 0, "255.255.255.0"
	if !sameNetwork(a, b) {
		t.Error("a netmask and its prefix length differ")
	}
	c, _ := networkOf(fixedNetwork(driver.ModeIsolated, true), "")
	if sameNetwork(a, c) {
		t.Error("nat and isolated are the same")
	}
}

func TestSameNameSeesThroughNotation(t *testing.T) {
	name := []libvirtxml.NetworkDNSHostHostname{{Hostname: "web-1"}}
	ours, theirs := libvirtxml.NetworkDNSHost{IP: "fd00:1:2::5054:ff:fe00:1", Hostnames: name}, libvirtxml.NetworkDNSHost{IP: "fd00:1:2:0:5054:ff:fe00:1", Hostnames: name}
	if !sameName(ours, theirs) {
		t.Error("one name with one address is two")
	}
	theirs.IP = "fd00:1:2:0:5054:ff:fe00:2"
	if sameName(ours, theirs) {
		t.Error("two addresses are one")
	}
}
