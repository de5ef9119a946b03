package fake

import (
	"io"
	"sync"
)

// console echoes what is written to it.
type console struct {
	mu     sync.Mutex // guards data and closed
	more   sync.Cond
	data   []byte
	closed bool
}

func newConsole() *console {
	c := &console{}
	c.more.L = &c.mu
	return c
}

// Read implements io.Reader.
func (c *console) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.data) == 0 {
		if c.closed {
			return 0, io.EOF
		}
		c.more.Wait()
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	c.data = append(c.data, p...)
	c.more.Broadcast()
	return len(p), nil
}

func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.data = true, nil
	c.more.Broadcast()
}

// Close implements io.Closer.
func (c *console) Close() error {
	c.end()
	return nil
}
