package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

// LogChunk is a piece of what a guest wrote to its serial console.
type LogChunk struct {
	Data   []byte
	Offset int64 // where Data begins
	Size   int64 // of the whole log
}

// Next is the offset behind the chunk.
func (l LogChunk) Next() int64 { return l.Offset + int64(len(l.Data)) }

// ConsoleLog reads from offset on; negative counts from the end. The server decides how much it gives at once.
func (c *Client) ConsoleLog(ctx context.Context, id uuid.UUID, offset int64) (LogChunk, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/vms/" + id.String() + "/console/log",
		query: url.Values{"offset": {strconv.FormatInt(offset, 10)}}, accept: "text/plain"})
	if err != nil {
		return LogChunk{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return LogChunk{}, c.broken(ctx, err)
	}
	chunk := LogChunk{Data: data}
	for name, to := range map[string]*int64{"X-Console-Offset": &chunk.Offset, "X-Console-Size": &chunk.Size} {
		if *to, err = strconv.ParseInt(resp.Header.Get(name), 10, 64); err != nil {
			return LogChunk{}, protocolError("the answer with the console's log has no usable %s", name)
		}
	}
	return chunk, nil
}

// ConsoleTicket lets its holder open a console once.
type ConsoleTicket struct {
	Ticket    string    `json:"ticket"`
	Kind      string    `json:"kind"`
	URL       string    `json:"url"` // of the websocket; most often a path
	ExpiresAt time.Time `json:"expires_at"`
}

// ConsoleOpen says which console to open, and how; zero is the serial one, to type into.
type ConsoleOpen struct {
	Kind     string `json:"kind,omitempty"` // serial or vnc
	ReadOnly bool   `json:"read_only,omitempty"`
}

// OpenConsole asks for a ticket and opens a console. Whoever opens it closes it.
func (c *Client) OpenConsole(ctx context.Context, id uuid.UUID, how ConsoleOpen) (*Console, error) {
	var ticket ConsoleTicket
	// Without a key: answers that hold secrets are not kept for repetition.
	if err := c.json(ctx, call{method: http.MethodPost, path: "/api/v1/vms/" + id.String() + "/console", body: how}, &ticket); err != nil {
		return nil, err
	}
	target, err := c.consoleURL(ticket.URL)
	if err != nil {
		return nil, err
	}
	t, err := c.access(ctx)
	if err != nil {
		return nil, err
	}
	header := http.Header{"User-Agent": {c.cfg.UserAgent}}
	t.attach(header)
	conn, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: c.cfg.HTTP, HTTPHeader: header}) //nolint:bodyclose // the library closes it
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest {
			return nil, errorOf(resp)
		}
		return nil, c.broken(ctx, err)
	}
	conn.SetReadLimit(1 << 20)
	return &Console{conn: conn}, nil
}

// consoleURL finds the websocket that a ticket is for. It never leads to another host: the caller's token goes along.
func (c *Client) consoleURL(text string) (string, error) {
	ref, err := url.Parse(text)
	if err != nil || text == "" {
		return "", protocolError("the server gave no usable address of the console")
	}
	if ref.Host != "" && ref.Host != c.base.Host {
		return "", protocolError("the server sends the console to another host, %s", ref.Host)
	}
	target := c.base.JoinPath(ref.Path)
	target.RawQuery = ref.RawQuery
	return target.String(), nil
}

// Console is an open serial console. One goroutine may read while another one writes.
type Console struct {
	conn *websocket.Conn
}

// ErrConsoleClosed is how reading from a console ends that the server has closed in good order. The error that wraps it gives the reason.
var ErrConsoleClosed = errors.New("the console was closed")

// Read gives what the guest wrote next.
func (c *Console) Read(ctx context.Context) ([]byte, error) {
	_, data, err := c.conn.Read(ctx)
	if err == nil {
		return data, nil
	}
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed) && closed.Code == websocket.StatusNormalClosure && closed.Reason == "":
		return nil, ErrConsoleClosed
	case errors.As(err, &closed) && closed.Code == websocket.StatusNormalClosure:
		return nil, fmt.Errorf("%w: %s", ErrConsoleClosed, closed.Reason)
	case errors.As(err, &closed) && closed.Reason != "":
		return nil, fmt.Errorf("the server closed the console: %s (%d)", closed.Reason, closed.Code)
	case errors.As(err, &closed):
		return nil, fmt.Errorf("the server closed the console (%d)", closed.Code)
	default:
		return nil, fmt.Errorf("the connection of the console broke: %w", err)
	}
}

// Write types into the console.
func (c *Console) Write(ctx context.Context, data []byte) error {
	return c.conn.Write(ctx, websocket.MessageBinary, data)
}

// Conn gives the console as a connection, for protocols such as VNC. It ends with ctx.
func (c *Console) Conn(ctx context.Context) net.Conn {
	return websocket.NetConn(ctx, c.conn, websocket.MessageBinary)
}

// Screenshot takes a picture of the screen of a virtual machine, as PNG.
func (c *Client) Screenshot(ctx context.Context, id uuid.UUID) ([]byte, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/vms/" + id.String() + "/console/screenshot", accept: "image/png"})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read only
	return io.ReadAll(io.LimitReader(resp.Body, maxPicture))
}

// maxPicture is more than the server sends.
const maxPicture = 32 << 20

// Close ends the console in good order.
func (c *Console) Close() error { return c.conn.Close(websocket.StatusNormalClosure, "") }
