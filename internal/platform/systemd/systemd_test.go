package systemd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/platform/systemd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager listens where a service manager would.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", addr.Name)
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotify(t *testing.T) {
	conn := manager(t)
	for want, send := range map[string]func() error{
		"READY=1\nSTATUS=six modules":   func() error { return systemd.Ready("six modules") },
		"STOPPING=1":                    func() error { return systemd.Stopping("") },
		"STATUS=starting the vm module": func() error { return systemd.Status("starting the vm module") },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, conn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWatchdogPingsWhileAlive(t *testing.T) {
	conn := manager(t)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	dead := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- systemd.Watchdog(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)), func(context.Context) error {
			select {
			case <-dead:
				asked <- struct{}{}
				return errors.New("stuck")
			default:
				return nil
			}
		})
	}()
	for range 3 {
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Fatalf("got %q", got)
		}
	}
	close(dead)
	for range 3 {
		<-asked
	}
	// Whatever was sent before is read; nothing may follow it.
	pings := 0
	for {
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			break
		}
		if pings++; pings > 2 {
			t.Fatal("a stuck process is reported as alive")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := systemd.Ready("x"); err != nil {
		t.Error(err)
	}
	if err := systemd.Watchdog(t.Context(), slog.Default(), nil); err != nil {
		t.Error(err)
	}
}
