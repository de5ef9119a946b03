package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// sizeText writes a number of bytes for people.
func sizeText(n uint64) string {
	if n >= 10*gib {
		return fmt.Sprintf("%d GiB", n/gib)
	}
	if n >= gib {
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// checkDataDir looks at the nearest folder that exists: the data folder itself is made at the first start.
func checkDataDir(_ context.Context, h Host, opts Options) []Result {
	const name = "data folder"
	dir := path.Clean(opts.DataDir)
	for dir != "/" {
		info, err := fs.Stat(h.Root, strings.TrimPrefix(dir, "/"))
		if err == nil && !info.IsDir() {
			return fail(name, dir+" is not a folder", "Name another one with --data-dir, or remove it.", "")
		}
		if err == nil {
			break
		}
		if errors.Is(err, fs.ErrPermission) {
			return fail(name, dir+" cannot be entered", "Run NovaCron as the user that owns it, most often root.", "")
		}
		dir = path.Dir(dir)
	}
	free, total, err := h.Space(dir)
	if err != nil {
		return warn(name, dir+": "+err.Error(), "", "")
	}
	found := fmt.Sprintf("%s free of %s in %s", sizeText(free), sizeText(total), dir)
	switch {
	case h.Access(dir, unix.W_OK) != nil:
		return fail(name, dir+" cannot be written", "Run NovaCron as root, or name a folder of your own with --data-dir.", "")
	case free < gib:
		return fail(name, found, "Make room, or name another folder with --data-dir: images and disks lie there.", "")
	case free < 10*gib:
		return warn(name, found, "Make room before you create larger machines: images and disks lie there.", "")
	}
	return ok(name, found)
}

func checkMemory(_ context.Context, h Host, _ Options) []Result {
	const name = "memory"
	raw, err := fs.ReadFile(h.Root, "proc/meminfo")
	if err != nil {
		return warn(name, "cannot be told: "+err.Error(), "Mount /proc.", "")
	}
	amount := func(key string) uint64 {
		for line := range strings.Lines(string(raw)) {
			if value, found := strings.CutPrefix(line, key+":"); found {
				n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
				return n << 10
			}
		}
		return 0
	}
	available := amount("MemAvailable")
	found := fmt.Sprintf("%s available of %s", sizeText(available), sizeText(amount("MemTotal")))
	switch {
	case available < 256*mib:
		return fail(name, found, "Stop other programs, or add memory: NovaCron with its database needs about 256 MiB, and guests come on top.", "")
	case available < gib:
		return warn(name, found, "There is room for small guests only.", "")
	}
	return ok(name, found)
}

func checkClock(_ context.Context, h Host, _ Options) []Result {
	const name = "clock"
	synchronized, err := h.Clock()
	switch {
	case err != nil:
		return warn(name, "the kernel does not tell: "+err.Error(), "See to it that the clock is right: tokens and certificates depend on it.", "")
	case !synchronized:
		return warn(name, "not synchronised", "Have a time service keep it: tokens, certificates and other hosts depend on it.", install("systemd-timesyncd"))
	}
	return ok(name, "synchronised")
}

// checkCgroup looks for the controllers that libvirt bounds guests with.
func checkCgroup(_ context.Context, h Host, _ Options) []Result {
	const name = "cgroups"
	if raw, err := fs.ReadFile(h.Root, "sys/fs/cgroup/cgroup.controllers"); err == nil {
		have := strings.Fields(string(raw))
		missing := missingOf(have, "cpu", "memory", "io")
		if len(missing) == 0 {
			return ok(name, "version 2: "+strings.Join(have, " "))
		}
		return warn(name, "version 2 without "+strings.Join(missing, ", "), "Delegate the controllers to where NovaCron runs; without them guests are not bounded.", "")
	}
	var have []string
	for _, c := range []string{"cpu", "memory", "devices"} {
		if _, err := fs.Stat(h.Root, "sys/fs/cgroup/"+c); err == nil {
			have = append(have, c)
		}
	}
	missing := missingOf(have, "cpu", "memory", "devices")
	switch {
	case len(have) == 0:
		return warn(name, "not mounted", "Mount them at /sys/fs/cgroup; without them guests are not bounded.", "mount -t cgroup2 none /sys/fs/cgroup")
	case len(missing) > 0:
		return warn(name, "version 1 without "+strings.Join(missing, ", "), "Mount the missing controllers; without them guests are not bounded.", "")
	}
	return ok(name, "version 1: "+strings.Join(have, " "))
}

func missingOf(have []string, want ...string) []string {
	var missing []string
	for _, w := range want {
		found := false
		for _, x := range have {
			found = found || x == w
		}
		if !found {
			missing = append(missing, w)
		}
	}
	return missing
}

// wantFiles is enough for some hundred guests, each with its streams, and as many clients.
const wantFiles = 8192

// checkFiles looks at the hard limit: the Go runtime raises the soft one by itself.
func checkFiles(_ context.Context, h Host, _ Options) []Result {
	const name = "open files"
	hard, err := h.Files()
	switch {
	case err != nil:
		return warn(name, "the limit cannot be told: "+err.Error(), "", "")
	case hard < wantFiles:
		return warn(name, fmt.Sprintf("at most %d", hard), fmt.Sprintf("Allow %d or more: LimitNOFILE= in the unit, or ulimit -Hn.", wantFiles), "ulimit -Hn "+strconv.Itoa(wantFiles))
	case hard >= 1<<62:
		return ok(name, "no limit")
	}
	return ok(name, fmt.Sprintf("at most %d", hard))
}

// checkListen tries the API's address. NovaCron itself may hold it.
func checkListen(ctx context.Context, h Host, opts Options) []Result {
	const name = "api address"
	err := h.Listen(opts.Listen)
	switch {
	case err == nil:
		return ok(name, opts.Listen+" is free")
	case errors.Is(err, syscall.EACCES):
		return fail(name, opts.Listen+": "+err.Error(), "Run NovaCron as root, or choose a port above 1023 with --listen.", "")
	case !errors.Is(err, syscall.EADDRINUSE):
		return fail(name, opts.Listen+": "+err.Error(), "Name an address of this host with --listen.", "")
	}
	if answer, err := h.Fetch(ctx, "http://"+opts.Listen+"/api/v1/info"); err == nil && strings.Contains(answer, `"NovaCron"`) {
		return ok(name, opts.Listen+" is served by NovaCron")
	}
	return fail(name, opts.Listen+" is taken by another program", "Stop that program, or choose another address with --listen. This shows who holds it: ss -ltnp", "")
}
