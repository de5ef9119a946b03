package doctor

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is how the checks see a host.
type Host struct {
	Root     fs.FS // the file system's root; names have no slash in front
	EUID     int
	Arch     string                                                                    // as in GOARCH
	LookPath func(program string) (string, error)                                      // finds a program
	Run      func(ctx context.Context, program string, args ...string) (string, error) // gives what it printed; the error holds what it complained of
	Access   func(path string, mode uint32) error                                      // unix.R_OK, unix.W_OK
	KVM      func(device string) (version int, err error)                              // asks the device for its API version
	Space    func(path string) (free, total uint64, err error)                         // of the file system, in bytes
	Clock    func() (synchronized bool, err error)                                     // asks the kernel
	Files    func() (hard uint64, err error)                                           // how many files a process may open
	Listen   func(address string) error                                                // tries whether one can
	Fetch    func(ctx context.Context, url string) (string, error)
}

// Local is the host that the program runs on.
func Local(arch string) Host {
	return Host{Root: os.DirFS("/"), EUID: os.Geteuid(), Arch: arch, LookPath: lookPath, Run: run, Access: unix.Access, KVM: kvmVersion, Space: space,
		Clock: clockSynchronized, Files: fileLimit, Listen: listen, Fetch: fetch}
}

// lookPath looks also where an ordinary user's PATH does not lead.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // the checks read the answers
	cmd.WaitDelay = time.Second
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if text := strings.TrimSpace(complaint.String()); err != nil && text != "" {
		err = errors.New(text)
	}
	return string(out), err
}

// kvmGetAPIVersion is KVM_GET_API_VERSION, _IO(0xAE, 0x00) of linux/kvm.h.
const kvmGetAPIVersion = 0xAE00

func kvmVersion(device string) (int, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
}

func space(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	size := uint64(s.Bsize) // int64 here, never negative
	return s.Bavail * size, s.Blocks * size, nil
}

// clockSynchronized asks the kernel, which every NTP daemon tells, as adjtimex(2) says.
func clockSynchronized() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}

func fileLimit() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Max, err
}

func listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// maxFetch is more than what is looked for.
const maxFetch = 64 << 10

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a proxy: it is this host that is asked
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFetch))
	return string(body), err
}
