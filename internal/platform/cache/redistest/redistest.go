// Package redistest starts a Redis server of a test's own, on a unix socket. It needs Debian's package redis-server.
package redistest

import (
	"bufio"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long the server may take to answer.
const patience = 20 * time.Second

// Server is a server that ends with its test.
type Server struct {
	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// Start starts a server and waits until it answers.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// URL is how to reach the server.
func (s *Server) URL() string { return "unix://" + s.socket() }

func (s *Server) socket() string { return filepath.Join(s.dir, "s") }

// Restart starts the server after Kill. It has forgotten everything.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--save", "")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("this test needs redis-server, which is in Debian's package of that name: %v", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !s.answers(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatal("redis-server did not come up")
		}
	}
}

func (s *Server) answers() bool {
	c, err := net.DialTimeout("unix", s.socket(), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "+PONG")
}

// Kill ends the server without warning. It may be called twice.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// Signal sends the server a signal, for example SIGSTOP to let it hang.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }
