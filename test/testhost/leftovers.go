package testhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// groupRoot is where the machine's control groups are mounted.
const groupRoot = "/sys/fs/cgroup"

// lxcControllers are those that libvirt's driver of containers wants, each mounted on its own.
var lxcControllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio"}

func needLXC(t testing.TB) {
	t.Helper()
	for _, c := range lxcControllers {
		if _, err := os.Stat(filepath.Join(groupRoot, c, "tasks")); err != nil {
			t.Skipf("a host for containers needs the control group controller %s mounted on its own: %v", c, err)
		}
	}
	if drivers, _ := filepath.Glob("/usr/lib/*/libvirt/connection-driver/libvirt_driver_lxc.so"); len(drivers) == 0 {
		t.Skip("a host for containers needs libvirt-daemon-driver-lxc")
	}
}

// enterGroups makes the host's control groups and gives the command that enters them: what follows it sees them as the whole, so that
// guests of the same name on two hosts do not meet.
func (h *Host) enterGroups() []string {
	h.t.Helper()
	enter := ""
	for _, c := range lxcControllers {
		dir := filepath.Join(groupRoot, c, filepath.Base(h.dir))
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as every control group
			h.t.Fatal(err)
		}
		if c == "cpuset" { // a group of this kind begins without processors and takes nobody in
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
				text, err := os.ReadFile(filepath.Join(groupRoot, c, f))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, f), text, 0o600)
				}
				if err != nil {
					h.t.Fatal(err)
				}
			}
		}
		enter += "echo $$ > " + dir + "/tasks; "
	}
	return []string{"bash", "-c", "set -e; " + enter + `exec unshare --cgroup "$@"`, "enter"}
}

// removeGroups removes the control groups of a host, children first. While a process is in one it fails.
func removeGroups(name string) error {
	for _, c := range lxcControllers {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(groupRoot, c, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for control groups: %w", err)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

var hostDir = regexp.MustCompile(`^nvh([0-9]+)-[0-9]+$`)

// reap removes what hosts of killed tests left behind: files and control groups. Their processes died with the test. A host is dead when
// its process is and nobody holds its lock; the latter alone would take a host that is just being made, the former alone one of
// another container that shares this folder.
func reap() error {
	entries, err := os.ReadDir(base())
	if err != nil {
		return fmt.Errorf("look for hosts: %w", err)
	}
	for _, e := range entries {
		name := hostDir.FindStringSubmatch(e.Name())
		if name == nil {
			continue
		}
		if pid, err := strconv.Atoi(name[1]); err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		dir := filepath.Join(base(), e.Name())
		if lock, err := os.Open(filepath.Join(dir, "lock")); err == nil {
			err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			_ = lock.Close()
			if err != nil {
				continue
			}
		}
		if err := removeGroups(e.Name()); err != nil {
			continue // its last process is still ending; the next test will find it
		}
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	return nil
}
