package node

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

const (
	// maxViewers bounds the viewers of one guest's console, so that one guest cannot use up the node's consoles.
	maxViewers = 8
	// recentMax is how much of what the guest wrote last a new viewer is shown.
	recentMax = 16 << 10
	// consolePiece is the most that is read from the console at once, and viewerLag how many such pieces a viewer may be behind.
	consolePiece = 4 << 10
	viewerLag    = 256
	// viewerPatience is how long one piece may take to a viewer, so that one that has stalled is gone some time after the console too.
	viewerPatience = time.Minute
)

// sharedConsoles are the consoles that have viewers. The hypervisor knows one session for each guest; the viewers share it.
type sharedConsoles struct {
	mu   sync.Mutex // guards open, and the users of each
	open map[uuid.UUID]*sharedConsole
}

// sharedConsole is the serial console of one guest. It is opened for the first viewer and closed after the last.
type sharedConsole struct {
	ready   chan struct{} // closed when console and err are set
	console io.ReadWriteCloser
	err     error
	users   int // guarded by sharedConsoles.mu

	typing sync.Mutex // held while one viewer's keys are written, so that they stay together

	mu      sync.Mutex // guards what follows
	viewers map[*viewer]struct{}
	recent  []byte
	ended   bool
}

// viewer is one connection. Its pieces wait here, and nobody waits for it.
type viewer struct {
	conn   net.Conn
	pieces chan []byte // closed when the console has ended or the viewer is dropped
}

var errTooManyViewers = nodeapi.ErrViewers.WithMessage("%d viewers of the machine's console are connected", maxViewers)

// join gives the console of a guest, which open opens where nobody has it open, and tells what the guest wrote last. Whoever joins leaves.
func (s *sharedConsoles) join(ctx context.Context, vm uuid.UUID, open func() (io.ReadWriteCloser, []byte, error)) (c *sharedConsole, leave func(), err error) {
	s.mu.Lock()
	c, there := s.open[vm]
	switch {
	case !there:
		c = &sharedConsole{ready: make(chan struct{}), viewers: map[*viewer]struct{}{}}
		if s.open == nil {
			s.open = map[uuid.UUID]*sharedConsole{}
		}
		s.open[vm] = c
	case c.users >= maxViewers:
		s.mu.Unlock()
		return nil, nil, errTooManyViewers
	}
	c.users++
	s.mu.Unlock()
	leave = func() { s.leave(vm, c) }
	if !there {
		c.console, c.recent, c.err = open()
		if c.err == nil {
			go func() { // ends when the console does, which it does after the last viewer
				c.read()
				s.forget(vm, c)
			}()
		}
		close(c.ready)
	}
	select {
	case <-c.ready:
		err = c.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	return c, leave, nil
}

func (s *sharedConsoles) leave(vm uuid.UUID, c *sharedConsole) {
	s.mu.Lock()
	c.users--
	last := c.users == 0
	if last && s.open[vm] == c {
		delete(s.open, vm)
	}
	s.mu.Unlock()
	if last && c.console != nil { // whoever opened it is a user until it is open
		_ = c.console.Close()
	}
}

// forget makes the next viewer open the console anew.
func (s *sharedConsoles) forget(vm uuid.UUID, c *sharedConsole) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[vm] == c {
		delete(s.open, vm)
	}
}

// read hands what the guest writes to all viewers, until the console ends. A viewer that is too far behind is dropped.
func (c *sharedConsole) read() {
	buffer := make([]byte, consolePiece)
	for {
		n, err := c.console.Read(buffer)
		if n > 0 {
			c.hand(append([]byte(nil), buffer[:n]...))
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for v := range c.viewers {
		c.drop(v)
	}
}

func (c *sharedConsole) hand(piece []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent = append(c.recent, piece...)
	if over := len(c.recent) - recentMax; over > 0 {
		c.recent = append(c.recent[:0], c.recent[over:]...)
	}
	for v := range c.viewers {
		select {
		case v.pieces <- piece:
		default:
			c.drop(v)
			_ = v.conn.Close() // lets a write go that waits for the viewer
		}
	}
}

// drop gives a viewer nothing more. The caller holds mu.
func (c *sharedConsole) drop(v *viewer) {
	if _, there := c.viewers[v]; there {
		delete(c.viewers, v)
		close(v.pieces)
	}
}

// serve shows a viewer the console and types what comes from it, until either ends or ctx does. It returns when nothing of the viewer is left; leave is
// called before, because a guest that takes no keys lets go only when its console is closed.
func (c *sharedConsole) serve(ctx context.Context, conn net.Conn, leave func()) {
	v := &viewer{conn: conn, pieces: make(chan []byte, viewerLag)}
	c.mu.Lock()
	if len(c.recent) > 0 {
		v.pieces <- append([]byte(nil), c.recent...) // there is room
	}
	c.viewers[v] = struct{}{}
	if c.ended {
		c.drop(v)
	}
	c.mu.Unlock()
	ended := make(chan struct{}, 2)
	go func() { // ends when the viewer is dropped or gone
		defer func() { ended <- struct{}{} }()
		for piece := range v.pieces {
			_ = conn.SetWriteDeadline(time.Now().Add(viewerPatience)) // fails on a closed connection, which Write tells
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}()
	go func() { // ends when the connection or the console is closed
		defer func() { ended <- struct{}{} }()
		buffer := make([]byte, consolePiece)
		for {
			n, err := conn.Read(buffer)
			if n > 0 && c.typeIn(buffer[:n]) != nil || err != nil {
				return
			}
		}
	}()
	left := 2
	select {
	case <-ended:
		left--
	case <-ctx.Done():
	}
	_ = conn.Close()
	c.mu.Lock()
	c.drop(v)
	c.mu.Unlock()
	leave()
	for ; left > 0; left-- {
		<-ended
	}
}

func (c *sharedConsole) typeIn(keys []byte) error {
	c.typing.Lock()
	defer c.typing.Unlock()
	_, err := c.console.Write(keys)
	return err
}
