package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
)

// OpenConsole implements driver.Driver.
func (d *Driver) OpenConsole(ctx context.Context, vm uuid.UUID) (io.ReadWriteCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := d.acquire()
	if err != nil {
		return nil, err
	}
	stream, err := s.conn.NewStream(0)
	if err != nil {
		s.release()
		return nil, mapError("open the console", err, s)
	}
	err = domain(s.conn, vm, func(dom *libvirt.Domain) error {
		return dom.OpenConsole("", stream, libvirt.DOMAIN_CONSOLE_FORCE)
	})
	if err != nil {
		_ = stream.Free()
		s.release()
		return nil, mapError("open the console", err, s)
	}
	return &console{stream: stream, session: s}, nil
}

// console is the serial console as a stream. The stream and the session are freed after Close, when the last Read or Write has
// returned.
type console struct {
	stream  *libvirt.Stream
	session *session

	mu     sync.Mutex // guards what follows
	users  int
	closed bool
	freed  bool
}

var errConsoleClosed = errors.New("the console is closed")

func (c *console) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.users++
	return true
}

func (c *console) leave() {
	c.mu.Lock()
	c.users--
	c.mu.Unlock()
	c.freeIfUnused()
}

func (c *console) freeIfUnused() {
	c.mu.Lock()
	last := c.closed && c.users == 0 && !c.freed
	c.freed = c.freed || last
	c.mu.Unlock()
	if last {
		_ = c.stream.Free()
		c.session.release()
	}
}

// Read implements io.Reader. The end of the domain is io.EOF.
func (c *console) Read(p []byte) (int, error) {
	if !c.enter() {
		return 0, errConsoleClosed
	}
	defer c.leave()
	n, err := c.stream.Recv(p)
	switch {
	case errors.Is(err, io.EOF):
		return 0, io.EOF
	case err != nil:
		return 0, fmt.Errorf("read the console: %w", err)
	}
	return n, nil
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	if !c.enter() {
		return 0, errConsoleClosed
	}
	defer c.leave()
	written := 0
	for written < len(p) {
		n, err := c.stream.Send(p[written:])
		if err != nil {
			return written, fmt.Errorf("write to the console: %w", err)
		}
		written += n
	}
	return written, nil
}

// Close implements io.Closer. A Read that waits returns.
func (c *console) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	_ = c.stream.Abort() // fails when the other side was faster
	c.freeIfUnused()
	return nil
}
