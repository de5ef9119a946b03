package service

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// ConsoleRecorder is told of consoles as they are opened and closed. It is called from many goroutines.
type ConsoleRecorder interface {
	// Opened says no where the opening cannot be recorded. closed is called once.
	Opened(ctx context.Context, o ConsoleOpened) (closed func(openFor time.Duration, fromGuest, toGuest int64), err error)
}

// ConsoleOpened is a console that was opened.
type ConsoleOpened struct {
	ConsoleRequest
	Viewer identity.Principal
}

// openConsole is a connection to a console that is forgotten when it is closed.
type openConsole struct {
	net.Conn
	fromGuest, toGuest atomic.Int64 // bytes
	done               func()
}

// Read implements io.Reader.
func (c *openConsole) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.fromGuest.Add(int64(n))
	return n, err
}

// Write implements io.Writer.
func (c *openConsole) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.toGuest.Add(int64(n))
	return n, err
}

// Close implements io.Closer. It may be called again.
func (c *openConsole) Close() error {
	c.done()
	return c.Conn.Close()
}

// EndConsoles closes all consoles, and waits a moment for what is recorded of each at its end.
func (s *Service) EndConsoles() {
	s.open.end(func(identity.Principal) bool { return true })
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(endPatience); time.Now().Before(end); <-look.C {
		if all, _ := s.open.count(uuid.Nil); all == 0 {
			return
		}
	}
}

// endPatience bounds how long the end of the process waits for that of its consoles.
const endPatience = 2 * time.Second

// keepConsole notes an open console, and says in the log when it was opened and closed, and by whom.
func (s *Service) keepConsole(ctx context.Context, conn net.Conn, g consoleGrant) (io.ReadWriteCloser, error) {
	closed, err := s.usage.Opened(ctx, ConsoleOpened{g.ConsoleRequest, g.owner})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if g.ReadOnly {
		conn = watchOnly(conn, g.Kind)
	}
	forget := s.open.add(g.owner, func() { _ = conn.Close() }) // the other side notices
	opened := time.Now()
	log := s.log.With("vm_id", g.VMID, "kind", g.Kind, "read_only", g.ReadOnly, "user", g.owner.Username, "user_id", g.owner.UserID)
	log.InfoContext(ctx, "console opened")
	c := &openConsole{Conn: conn}
	c.done = sync.OnceFunc(func() {
		defer forget()
		openFor, from, to := time.Since(opened), c.fromGuest.Load(), c.toGuest.Load()
		closed(openFor, from, to)
		log.InfoContext(ctx, "console closed", "open_for", openFor, "from_guest_bytes", from, "to_guest_bytes", to)
	})
	return c, nil
}
