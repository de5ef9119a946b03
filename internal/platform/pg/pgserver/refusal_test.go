package pgserver_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
)

func TestOtherMajorVersionIsRefused(t *testing.T) {
	dir := dataDir(t)
	s := server(dir)
	start(t, s)
	if err := s.Stop(patient(t)); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(dir, "cluster", "PG_VERSION")
	for content, words := range map[string][]string{
		"9.6": {"9.6", "pg_upgrade"},
		"12":  {"PostgreSQL 12", "postgresql-12", "pg_upgrade"},
		"99":  {"PostgreSQL 99", "postgresql-99"},
	} {
		if err := os.WriteFile(version, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := s.Start(patient(t))
		if !errors.Is(err, pgserver.ErrVersionMismatch) {
			t.Fatalf("version %s: %v", content, err)
		}
		e := errs.From(err)
		for _, w := range words {
			if !strings.Contains(e.Message+e.Action, w) {
				t.Errorf("version %s: %q, %q does not speak of %s", content, e.Message, e.Action, w)
			}
		}
	}
}

func TestBinariesMissing(t *testing.T) {
	old := t.TempDir()
	for _, program := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(old, program), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for what, dirs := range map[string][]string{"none": {}, "no such folder": {"/nonexistent"}, "too old": {old}} {
		s := pgserver.New(pgserver.Config{DataDir: dataDir(t), Log: slog.New(slog.DiscardHandler), BinDirs: dirs})
		err := s.Start(patient(t))
		if !errors.Is(err, pgserver.ErrBinariesMissing) || !strings.Contains(errs.From(err).Action, "apt-get install postgresql") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nothing but the 0700 folder of t.TempDir stands between the owner and the data.
func TestUnreachableFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as somebody else")
	}
	err := server(filepath.Join(t.TempDir(), "postgres")).Start(patient(t))
	if !errors.Is(err, pgserver.ErrUnreachable) || !strings.Contains(errs.From(err).Action, "chmod") {
		t.Error(err)
	}
	s := pgserver.New(pgserver.Config{DataDir: dataDir(t), Log: slog.New(slog.DiscardHandler), User: "no-such-user"})
	if err := s.Start(patient(t)); !errors.Is(err, pgserver.ErrOwnerMissing) {
		t.Error(err)
	}
}

func TestForeignFolderIsLeftAlone(t *testing.T) {
	dir := dataDir(t)
	precious := filepath.Join(dir, "cluster", "precious")
	if err := os.MkdirAll(filepath.Dir(precious), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server(dir).Start(patient(t)); !errors.Is(err, pgserver.ErrStartFailed) {
		t.Error(err)
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "data" {
		t.Errorf("got %q, %v", b, err)
	}
}

// A crash during initdb leaves a folder that is no cluster yet.
func TestUnfinishedClusterIsRemoved(t *testing.T) {
	dir := dataDir(t)
	unfinished := filepath.Join(dir, "initdb-1")
	if err := os.MkdirAll(filepath.Join(unfinished, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := server(dir)
	start(t, s)
	if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// After a reboot the number in postmaster.pid may belong to any process of the same user, and PostgreSQL would not start.
func TestStalePidFile(t *testing.T) {
	dir := dataDir(t)
	s := server(dir)
	start(t, s)
	if err := s.Stop(patient(t)); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	sleeper := exec.Command("sleep", "3600")
	if os.Geteuid() == 0 {
		sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
	}
	sleeper.Dir = "/"
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	pidFile := filepath.Join(dir, "cluster", "postmaster.pid")
	text := fmt.Sprintf("%d\n%s/cluster\n1700000000\n5432\n%s/run\n\n 123456 7\n", sleeper.Process.Pid, dir, dir)
	if err := os.WriteFile(pidFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(pidFile, int(st.Uid), int(st.Gid)); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a stranger was killed: %v", err)
	}
}

// A postmaster that nobody told to stop, for example because it was started by hand.
func TestOrphanIsReplaced(t *testing.T) {
	dir := dataDir(t)
	s := server(dir)
	start(t, s)
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(patient(t)); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command(program, "-D", filepath.Join(dir, "cluster"), "-c", "unix_socket_directories="+filepath.Join(dir, "run"), "-c", "listen_addresses=")
	if st := fi.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		orphan.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
	}
	orphan.Dir = dir
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	eventually(t, "the orphan serves", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "cluster", "postmaster.pid"))
		return err == nil && strings.Contains(string(b), "ready")
	})
	if err := s.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the orphan did not stop in good order: %v", err)
	}
	if got := query(t, s, "SELECT 'up'"); got != "up" || s.PID() == orphan.Process.Pid {
		t.Errorf("got %q from process %d", got, s.PID())
	}
}

// A unix socket address holds 107 bytes, so a long path needs another place for the socket.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(filepath.Dir(dataDir(t)), strings.Repeat("long/", 30), "postgres")
	s := server(dir)
	start(t, s)
	if got := query(t, s, "SELECT 'up'"); got != "up" {
		t.Errorf("got %q", got)
	}
	if strings.Contains(s.URL(), "long") {
		t.Errorf("the socket is at %s", s.URL())
	}
	if server(dir).URL() != s.URL() {
		t.Error("another run would look for the socket elsewhere")
	}
	if err := s.Stop(patient(t)); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(u.Query().Get("host")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of the socket: %v", err)
	}
}

// A non-root process runs PostgreSQL as itself.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests show it")
	}
	dir := dataDir(t)
	const nobody = 65534
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// A copy of this binary, at a place that nobody can reach.
	program := filepath.Join(filepath.Dir(dir), "program")
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.Output() // standard input is empty: it stops at once
	if err != nil || !strings.HasPrefix(string(out), "ready ") {
		t.Fatalf("%s, %v", out, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "cluster")); err != nil || fi.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("cluster: %v, %v", fi, err)
	}
}
