package pgtest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// childEnv makes this test binary one that is killed in the middle of a test.
const childEnv = "PGTEST_TEST_CHILD"

func TestMain(m *testing.M) { pgtest.Main(m) }

func thing(column string) fs.FS {
	return fstest.MapFS{"00001_thing.sql": {Data: []byte("-- +goose Up\nCREATE TABLE thing (" + column + " int);")}}
}

func TestDatabasesAreApart(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t, pgtest.Schema{Name: "apart", Migrations: thing("n")}).Pool("apart")
			if _, err := pool.Exec(t.Context(), "INSERT INTO thing VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			var rows int
			if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM thing").Scan(&rows); err != nil || rows != 1 {
				t.Errorf("%d rows, %v", rows, err)
			}
		})
	}
	t.Run("other migrations of the same name", func(t *testing.T) {
		pool := pgtest.New(t, pgtest.Schema{Name: "apart", Migrations: thing("other")}).Pool("apart")
		if _, err := pool.Exec(t.Context(), "INSERT INTO thing (other) VALUES (1)"); err != nil {
			t.Error(err)
		}
	})
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	var name string
	t.Run("inner", func(t *testing.T) {
		d := pgtest.New(t, pgtest.Schema{Name: "apart", Migrations: thing("n")})
		if err := d.Pool("apart").QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var exists bool
	pool := pgtest.New(t, pgtest.Schema{Name: "apart", Migrations: thing("n")}).Pool("apart")
	if err := pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil || exists || name == "" {
		t.Errorf("database %q is still there: %v, %v", name, exists, err)
	}
}

// A test binary that is killed leaves no server behind, and the next one removes its folder.
func TestKilledBinary(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		c := pgtest.NewCluster(t)
		fmt.Println("running", c.Server.PID(), strings.TrimSpace(c.Server.URL()))
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		return
	}
	tmp := t.TempDir()
	if err := os.Chmod(filepath.Dir(tmp), 0o711); err != nil {
		t.Fatal(err)
	}
	run := func() (*exec.Cmd, *bufio.Reader) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBinary$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+tmp)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, bufio.NewReader(out)
	}
	cmd, out := run()
	var pid int
	for pid == 0 {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(line, "running %d", &pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-deadline.C:
			t.Fatalf("process %d still runs", pid)
		case <-tick.C:
		}
	}
	left, err := filepath.Glob(filepath.Join(tmp, "novacron-pgtest-*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("folders %v, %v", left, err)
	}
	fresh := filepath.Join(tmp, "novacron-pgtest-fresh")
	if err := os.Mkdir(fresh, 0o711); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	pgtest.Sweep(tmp)
	if _, err := os.Stat(left[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the killed binary: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("the folder of one that is just starting: %v", err)
	}
}
