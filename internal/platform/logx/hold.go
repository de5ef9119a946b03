package logx

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Held gathers lines for a moment and writes them together: a busy server logs thousands in a second, and a write of each would cost about as
// much as making it. No line is dropped: who logs more than there is room for waits for the write. New has a line of level warn or error
// take those before it along at once, so a process that is killed loses at most the infos of its last moment. It is safe for concurrent use.
type Held struct {
	to     io.Writer
	during time.Duration

	mu     sync.Mutex // guards what follows, and keeps writes in order
	lines  []byte
	due    *time.Timer // writes what is there; armed while lines is not empty
	failed error       // of a write that nobody waited for
	closed bool
}

// maxHeld is how many bytes are gathered at most.
const maxHeld = 64 << 10

// Hold makes a Held that writes to w. A line waits for others at most as long as during; 0 writes each at once. Close must be called at the end.
func Hold(w io.Writer, during time.Duration) *Held { return &Held{to: w, during: during} }

// Write implements io.Writer. p is one line or several, whole.
func (h *Held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.during <= 0 {
		return h.to.Write(p)
	}
	if len(h.lines)+len(p) > maxHeld {
		h.write()
	}
	if len(h.lines) == 0 {
		h.arm()
	}
	h.lines = append(h.lines, p...)
	return len(p), h.told()
}

func (h *Held) arm() {
	if h.due != nil {
		h.due.Reset(h.during)
		return
	}
	h.due = time.AfterFunc(h.during, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.write()
	})
}

// told gives the failure that nobody was told of yet.
func (h *Held) told() error {
	err := h.failed
	h.failed = nil
	return err
}

// write hands on what is there. The room for a line that was longer than all others is not kept.
func (h *Held) write() {
	if h.due != nil {
		h.due.Stop()
	}
	if len(h.lines) == 0 {
		return
	}
	if _, err := h.to.Write(h.lines); err != nil {
		h.failed = err
	}
	if h.lines = h.lines[:0]; cap(h.lines) > 2*maxHeld {
		h.lines = nil
	}
}

// Flush writes what waits.
func (h *Held) Flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.write()
	return h.told()
}

// Close writes what waits. What is logged afterwards is written at once. It is idempotent.
func (h *Held) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	if err := h.Flush(); err != nil {
		return fmt.Errorf("write the last lines of the log: %w", err)
	}
	return nil
}
