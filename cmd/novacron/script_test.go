package main

import (
	"context"
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(pgtest.Wrap(m), map[string]func(){"novacron": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}})
}

// cloudKey is where a script's server is kept.
type cloudKey struct{}

// TestScripts runs the program itself against a server that behaves as the API's contract says. The end-to-end tests do so with the real one.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireUniqueNames: true,
		Setup: func(ts *testscript.Env) error {
			cloud := newCloud()
			server := httptest.NewServer(cloud.handler())
			ts.Defer(server.Close)
			ts.Setenv("NOVACRON_SERVER", server.URL)
			ts.Setenv("XDG_CONFIG_HOME", ts.Getenv("WORK")+"/config")
			ts.Setenv("TERM", "xterm")
			ts.Values[cloudKey{}] = cloud
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "doctor": examine, "mark": mark, "served": served},
	})
}

// exits runs a command and fails unless it ends with the given code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// examine runs the doctor, whose exit code depends on the host that the test runs on.
func examine(ts *testscript.TestScript, _ bool, args []string) {
	var ended *exec.ExitError
	if err := ts.Exec("novacron", append([]string{"doctor"}, args...)...); err != nil && (!errors.As(err, &ended) || ended.ExitCode() != exitFailure) {
		ts.Fatalf("%v", err)
	}
}

// mark has the server forget what it was asked for.
func mark(ts *testscript.TestScript, _ bool, _ []string) { ts.Value(cloudKey{}).(*cloud).mark() }

// served waits until the server has been asked for a path with the given ending so often since the last mark: served N ENDING.
func served(ts *testscript.TestScript, _ bool, args []string) {
	often, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(ts.Value(cloudKey{}).(*cloud).await(often, args[1]))
}
