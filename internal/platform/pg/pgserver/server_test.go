package pgserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/platform/pg/pgserver"
)

const patience = time.Minute

// childEnv makes this test binary run as a novacron that is going to be killed; its value is the data folder.
const childEnv = "PGSERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// child starts a server, says how that went and stays until somebody closes its standard input or kills it.
func child(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := server(dir)
	if err := s.Start(ctx); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	fmt.Println("ready", s.PID())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err := s.Stop(ctx); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	return 0
}

func server(dir string) *pgserver.Server {
	return pgserver.New(pgserver.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler), FastUnsafe: true})
}

// dataDir makes a folder that PostgreSQL's user can reach, which t.TempDir is not.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "novacron-pgserver-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgres")
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, s *pgserver.Server) {
	t.Helper()
	if err := s.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// query runs statements and gives the text of the last one's first column.
func query(t *testing.T, s *pgserver.Server, statements ...string) string {
	t.Helper()
	ctx := patient(t)
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer string
	for _, sql := range statements {
		if err := conn.QueryRow(ctx, sql).Scan(&answer); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return answer
}

// eventually polls until ok, for as long as the slowest machine may need.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("it did not happen: %s", what)
		case <-tick.C:
		}
	}
}

func TestFirstStartAndRestart(t *testing.T) {
	dir := dataDir(t)
	s := server(dir)
	if err := s.Stop(patient(t)); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	if s.Ready(patient(t)) == nil {
		t.Error("ready before start")
	}
	start(t, s)
	if err := s.Start(patient(t)); err != nil {
		t.Errorf("second start: %v", err)
	}
	if err := s.Ready(patient(t)); err != nil {
		t.Error(err)
	}
	query(t, s, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	for setting, want := range map[string]string{
		"server_encoding": "UTF8", "data_checksums": "on", "listen_addresses": "", "max_connections": "200", "TimeZone": "UTC",
		"cluster_name": "novacron", "lc_collate": "C.UTF-8",
	} {
		if got := query(t, s, "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	for name, mode := range map[string]os.FileMode{"": 0o711, "cluster": 0o700, "run": 0o700, "log": 0o700} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("folder %q: %v, %v", name, fi.Mode(), err)
		}
	}
	first := s.PID()
	for range 2 {
		if err := s.Stop(patient(t)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "log", "postgresql.log")); err != nil || !strings.Contains(string(b), "database system is shut down") {
		t.Errorf("no orderly shutdown in the log: %v", err)
	}
	if err := s.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s, "SELECT n::text FROM kept"); got != "42" || s.PID() == first {
		t.Errorf("after a restart: %q, process %d then %d", got, first, s.PID())
	}
	if s.Restarts() != 0 {
		t.Errorf("%d restarts counted", s.Restarts())
	}
}

func TestPostmasterKilled(t *testing.T) {
	s := server(dataDir(t))
	start(t, s)
	query(t, s, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42)")
	// A backend that is in the middle of something notices late that its postmaster is gone.
	ctx := patient(t)
	busy, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close(ctx)
	done := make(chan error, 1)
	go func() { _, err := busy.Exec(ctx, "SELECT pg_sleep(3600)"); done <- err }()

	for n := 1; n <= 2; n++ {
		old := s.PID()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server is back", func() bool { return s.Restarts() == n && s.Ready(ctx) == nil })
		if s.PID() == old {
			t.Errorf("still process %d", old)
		}
		if got := query(t, s, "SELECT n::text FROM kept"); got != "42" {
			t.Errorf("got %q", got)
		}
	}
	if err := <-done; err == nil {
		t.Error("the query survived")
	}
}

// runChild starts this binary as a novacron on dir and gives what it says.
func runChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestParentKilled(t *testing.T) {
	dir := dataDir(t)
	cmd, said := runChild(t, dir)
	var pid int
	if _, err := fmt.Sscanf(said, "ready %d", &pid); err != nil {
		t.Fatal(said)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// At once, while the orphan is still shutting down.
	s := server(dir)
	start(t, s)
	if got := query(t, s, "SELECT 'up'"); got != "up" || s.PID() == pid {
		t.Errorf("got %q from process %d, before %d", got, s.PID(), pid)
	}
	// And without anybody who asks for it.
	if err := s.Stop(patient(t)); err != nil {
		t.Fatal(err)
	}
	cmd, said = runChild(t, dir)
	if _, err := fmt.Sscanf(said, "ready %d", &pid); err != nil {
		t.Fatal(said)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan stops by itself", func() bool {
		_, err := os.Stat(filepath.Join(dir, "cluster", "postmaster.pid"))
		return errors.Is(err, os.ErrNotExist)
	})
	if b, err := os.ReadFile(filepath.Join(dir, "log", "postgresql.log")); err != nil || !strings.HasSuffix(strings.TrimSpace(string(b)), "database system is shut down") {
		t.Errorf("no orderly shutdown at the end of the log: %v", err)
	}
}

func TestOneServerForEachFolder(t *testing.T) {
	dir := dataDir(t)
	s := server(dir)
	start(t, s)
	if _, said := runChild(t, dir); !strings.Contains(said, "database.data_dir_in_use") || !strings.Contains(said, dir) {
		t.Errorf("another process: %s", said)
	}
	if err := server(dir).Start(patient(t)); !errors.Is(err, pgserver.ErrInUse) {
		t.Errorf("the same process: %v", err)
	}
	if err := s.Ready(patient(t)); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
}
