package stream

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Protocol is what a node asks to upgrade to for a stream of raw bytes both ways.
const Protocol = "novacron-stream"

// Accept takes the connection of a node that asks for the upgrade over from the HTTP server.
func Accept(w http.ResponseWriter, r *http.Request) (net.Conn, error) {
	if r.Header.Get("Upgrade") != Protocol {
		http.Error(w, "an upgrade to "+Protocol+" is expected", http.StatusUpgradeRequired)
		return nil, fmt.Errorf("accept stream: the node asked for %q", r.Header.Get("Upgrade"))
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("accept stream: %w", err)
	}
	_ = conn.SetDeadline(time.Time{}) // a stream may idle
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", Protocol); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("accept stream: %w", err)
	}
	return &readAhead{Conn: conn, r: buffered.Reader}, nil
}

// readAhead first gives the bytes that the HTTP server had read already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }
