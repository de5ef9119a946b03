package service

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ConsoleRecorder is told of consoles as they are opened and closed. It is called from many goroutines.
type ConsoleRecorder interface {
	Opened(kind string)
	Closed(kind string, openFor time.Duration, fromGuest, toGuest int64)
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

// keepConsole notes an open console, and says in the log when it was opened and closed, and by whom.
func (s *Service) keepConsole(ctx context.Context, conn net.Conn, g consoleGrant) io.ReadWriteCloser {
	if g.ReadOnly {
		conn = watchOnly(conn, g.Kind)
	}
	forget := s.open.add(g.owner, func() { _ = conn.Close() }) // the other side notices
	opened := time.Now()
	log := s.log.With("vm_id", g.VMID, "kind", g.Kind, "read_only", g.ReadOnly, "user", g.owner.Username, "user_id", g.owner.UserID)
	log.InfoContext(ctx, "console opened")
	s.usage.Opened(g.Kind)
	c := &openConsole{Conn: conn}
	c.done = sync.OnceFunc(func() {
		forget()
		openFor, from, to := time.Since(opened), c.fromGuest.Load(), c.toGuest.Load()
		s.usage.Closed(g.Kind, openFor, from, to)
		log.InfoContext(ctx, "console closed", "open_for", openFor, "from_guest_bytes", from, "to_guest_bytes", to)
	})
	return c
}
