package edge

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// writer notes what a handler answers, and keeps clients that do not read from holding a connection for ever: every write has a deadline.
// The handler's goroutine is the only one that uses it, as with every http.ResponseWriter.
type writer struct {
	http.ResponseWriter
	ctl    http.ResponseController
	x      *exchange // that it belongs to
	status int       // 0: nothing written yet
	bytes  int64
	stall  time.Duration // how long one write may take
	until  time.Time     // the write deadline that is set now

	hasBody    bool // the request has a body to read
	ownsReads  bool // the handler sets read deadlines itself
	ownsWrites bool // the handler sets write deadlines itself
	hijacked   bool // the handler has taken the connection
	streams    bool // the exchange knows that the answer is a stream
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.renew()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.renew()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// renew moves the write deadline. Doing so for every write would cost more than it gives, so it waits until a quarter has passed.
func (w *writer) renew() {
	if w.stall <= 0 || w.ownsWrites || w.hijacked {
		return
	}
	if now := time.Now(); w.until.Sub(now) < w.stall*3/4 {
		w.until = now.Add(w.stall)
		_ = w.ctl.SetWriteDeadline(w.until) // not supported by recorders in tests only
	}
}

// errHeadStream ends the handler of a HEAD request when it would begin to stream.
var errHeadStream = errors.New("a HEAD request has no body to stream")

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // the interface has no error

// FlushError is what http.ResponseController looks for. An answer that is flushed is taken for a stream.
func (w *writer) FlushError() error {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.x.method == http.MethodHead {
		w.x.end(errHeadStream)
	} else if !w.streams {
		w.streams = true
		w.x.streams("stream")
	}
	w.renew()
	return w.ctl.Flush()
}

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.ctl.Hijack()
	if err == nil {
		w.hijacked = true
		if w.status == 0 {
			w.status = http.StatusSwitchingProtocols
		}
		if !w.streams {
			w.streams = true
			w.x.streams("websocket")
		}
	}
	return c, rw, err
}

// SetReadDeadline lets a handler bound the reading of its body. Where there is no body, a deadline would only end the request: the
// server reads ahead to learn that a client has gone, and takes a deadline that passes for that.
func (w *writer) SetReadDeadline(t time.Time) error {
	if !w.hasBody && !w.hijacked {
		return nil
	}
	w.ownsReads = true
	return w.ctl.SetReadDeadline(t)
}

// SetWriteDeadline lets a handler set its own.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.ownsWrites = true
	return w.ctl.SetWriteDeadline(t)
}

// body ends requests whose bytes stop coming, and takes read deadlines away when the last byte is there, for the same reason.
type body struct {
	io.ReadCloser
	w     *writer
	stall time.Duration
	until time.Time
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.stall > 0 && !b.w.ownsReads && !b.w.hijacked {
		if now := time.Now(); b.until.Sub(now) < b.stall*3/4 {
			b.until = now.Add(b.stall)
			_ = b.w.ctl.SetReadDeadline(b.until) // not supported by recorders in tests only
		}
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && !b.w.hijacked {
		_ = b.w.ctl.SetReadDeadline(time.Time{})
	}
	return n, err
}
