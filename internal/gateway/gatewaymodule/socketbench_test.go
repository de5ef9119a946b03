package gatewaymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
)

// socketsEnv makes TestServeSockets a server.
const socketsEnv = "NOVACRON_TEST_BENCH_SOCKETS"

// TestServeSockets is no test: TestBenchSockets runs it in a process of its own.
func TestServeSockets(t *testing.T) {
	if os.Getenv(socketsEnv) == "" {
		t.Skip("a helper of TestBenchSockets")
	}
	d := open(t, func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) { deps.Log = nopLog() })
	go func() { // ends with the process
		for range d.things.entered {
		}
	}()
	fmt.Printf("\nlistens on %s\n", d.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is done
	os.Exit(0)                           // thousands of open sockets would only delay it
}

// TestBenchSockets measures what a websocket that is open and silent takes, with 10,000 of them.
func TestBenchSockets(t *testing.T) {
	if os.Getenv("NOVACRON_TEST_BENCH") == "" {
		t.Skip("set NOVACRON_TEST_BENCH=1, or run 'make bench'")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestServeSockets$", "-test.timeout", "0") //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), socketsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	addr := ""
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "listens on ")
		if addr == lines.Text() {
			addr = ""
		}
	}
	const many = 10_000
	before := resident(t, cmd.Process.Pid)
	for i := range many {
		// From several loopback addresses, so that ports do not run out.
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/5000))}, Timeout: patience} //nolint:gosec // there are far fewer
		conn, err := dialer.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("websocket %d: %v", i, err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /api/v1/socket HTTP/1.1\r\nHost: "+addr+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
			t.Fatalf("websocket %d: %v", i, err)
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("websocket %d: %v %v", i, resp, err)
		}
		_ = resp.Body.Close()
	}
	after := resident(t, cmd.Process.Pid)
	fmt.Printf("%d idle websockets: %.1f KiB of resident memory for each (of the process: %d MiB before, %d MiB then)\n",
		many, float64(after-before)/many/1024, before>>20, after>>20)
}

// resident gives the memory of a process in bytes, see proc_pid_statm(5).
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
