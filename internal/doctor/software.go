package doctor

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// startLibvirt starts libvirt, with systemd or without it.
func startLibvirt(h Host) string {
	if _, err := fs.Stat(h.Root, "run/systemd/system"); err == nil {
		return "systemctl enable --now libvirtd"
	}
	return "virtlogd -d; libvirtd -d"
}

var (
	libvirtDaemon     = regexp.MustCompile(`(?m)^Running against daemon: (\S+)`)
	libvirtHypervisor = regexp.MustCompile(`(?m)^Running hypervisor: (.+)$`)
)

// checkLibvirt asks libvirt by its own client, so that this program need not be linked with it.
func checkLibvirt(ctx context.Context, h Host, opts Options) []Result {
	const name = "libvirt"
	virsh, err := h.LookPath("virsh")
	if err != nil {
		return fail(name, "virsh is not installed", "Install libvirt and its client.", install("libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients"))
	}
	out, err := h.Run(ctx, virsh, "-c", opts.LibvirtURI, "version", "--daemon")
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		found := opts.LibvirtURI + " does not answer: " + strings.TrimPrefix(reason, "error: ")
		switch {
		case ctx.Err() != nil:
			return fail(name, opts.LibvirtURI+" does not answer in time", "Look into /var/log/libvirt, and restart libvirtd.", "")
		case strings.Contains(err.Error(), "Permission denied") || strings.Contains(err.Error(), "authentication"):
			return fail(name, found, "Run NovaCron as root, or as a member of the group libvirt.", "usermod -a -G libvirt $USER")
		case strings.Contains(err.Error(), "No such file or directory") || strings.Contains(err.Error(), "Connection refused"):
			return fail(name, found, "Start libvirt.", startLibvirt(h))
		}
		return fail(name, found, "Look into /var/log/libvirt.", "")
	}
	var facts []string
	for _, rule := range []*regexp.Regexp{libvirtDaemon, libvirtHypervisor} {
		if m := rule.FindStringSubmatch(out); m != nil {
			facts = append(facts, m[1])
		}
	}
	if len(facts) == 0 {
		return ok(name, opts.LibvirtURI)
	}
	return ok(name, opts.LibvirtURI+", "+strings.Join(facts, ", "))
}

var versionNumber = regexp.MustCompile(`\b(\d+)\.(\d+)(?:\.\d+)?`)

// minQEMU is Debian 12's major version, the oldest that NovaCron is tested with.
const minQEMU = 7

func checkQEMU(ctx context.Context, h Host, _ Options) []Result {
	const name = "qemu"
	program := "qemu-system-x86_64"
	if h.Arch == "arm64" {
		program = "qemu-system-aarch64"
	}
	return checkProgram(ctx, h, name, program, install("qemu-system-x86"), minQEMU)
}

func checkQEMUImg(ctx context.Context, h Host, _ Options) []Result {
	return checkProgram(ctx, h, "qemu-img", "qemu-img", install("qemu-utils"), minQEMU)
}

// checkProgram checks for a program of at least a major version.
func checkProgram(ctx context.Context, h Host, name, program, fix string, least int) []Result {
	file, err := h.LookPath(program)
	if err != nil {
		return fail(name, program+" is not installed", "Install it.", fix)
	}
	out, err := h.Run(ctx, file, "--version")
	m := versionNumber.FindStringSubmatch(out)
	switch {
	case err != nil:
		return fail(name, file+" does not run: "+err.Error(), "Install it anew.", strings.Replace(fix, "install", "install --reinstall", 1))
	case m == nil:
		return ok(name, file)
	}
	if major, err := strconv.Atoi(m[1]); err == nil && major < least {
		return warn(name, m[0]+" ("+file+")", "Use version "+strconv.Itoa(least)+" or later, with which NovaCron is tested.", "")
	}
	return ok(name, m[0]+" ("+file+")")
}

// minPostgres is the oldest major version that NovaCron works with.
const minPostgres = 15

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)\S*`)

// checkPostgres looks for the programs of the private database, where Debian puts them and in PATH.
func checkPostgres(ctx context.Context, h Host, opts Options) []Result {
	const name = "postgresql"
	if opts.DatabaseURL != "" {
		return ok(name, "another server is used: database.url is set")
	}
	var programs []string
	if found, err := fs.Glob(h.Root, "usr/lib/postgresql/*/bin/postgres"); err == nil {
		for _, p := range found {
			programs = append(programs, "/"+p)
		}
	}
	if p, err := h.LookPath("postgres"); err == nil {
		programs = append(programs, p)
	}
	best, bestText, old := 0, "", ""
	for _, p := range programs {
		out, err := h.Run(ctx, p, "--version")
		m := postgresVersion.FindStringSubmatch(out)
		if err != nil || m == nil {
			continue
		}
		major, err := strconv.Atoi(m[1])
		switch {
		case err != nil:
		case major < minPostgres:
			old = strings.TrimPrefix(m[0], "(PostgreSQL) ")
		case major > best:
			best, bestText = major, strings.TrimPrefix(m[0], "(PostgreSQL) ")+" ("+path.Dir(p)+")"
		}
	}
	const action = "Install PostgreSQL 15 or later, or set database.url to use a server elsewhere."
	switch {
	case best == 0 && old != "":
		return fail(name, "only version "+old, action, install("postgresql"))
	case best == 0:
		return fail(name, "not installed", action, install("postgresql"))
	}
	if h.EUID == 0 && !hasUser(h, "postgres") {
		return fail(name, bestText+", but no user postgres", "Create the user: PostgreSQL refuses to run as root.", "useradd --system --home-dir /var/lib/postgresql postgres")
	}
	return ok(name, bestText)
}

func hasUser(h Host, name string) bool {
	raw, err := fs.ReadFile(h.Root, "etc/passwd")
	return err == nil && (strings.HasPrefix(string(raw), name+":") || strings.Contains(string(raw), "\n"+name+":"))
}

func checkDNSMasq(_ context.Context, h Host, _ Options) []Result {
	const name = "dnsmasq"
	if file, err := h.LookPath("dnsmasq"); err == nil {
		return ok(name, file)
	}
	return fail(name, "not installed", "Install it: it gives guests their addresses.", install("dnsmasq-base"))
}

// checkFirewall looks for nft, which NovaCron protects guests with, and for what libvirt makes the rules of isolated networks with:
// iptables, from version 10.4 on also nft.
func checkFirewall(_ context.Context, h Host, _ Options) []Result {
	const name = "firewall"
	var found []string
	for _, program := range []string{"iptables", "nft"} {
		if file, err := h.LookPath(program); err == nil {
			found = append(found, file)
		}
	}
	switch {
	case len(found) == 0 || !strings.HasSuffix(found[len(found)-1], "nft"):
		return fail(name, "nft is not installed", "Install nftables: guests are protected with it, and none starts without.", install("nftables"))
	case !strings.HasSuffix(found[0], "iptables"):
		return warn(name, found[0], "Install iptables as well, unless libvirt is 10.4 or later.", install("iptables"))
	}
	return ok(name, strings.Join(found, ", "))
}
