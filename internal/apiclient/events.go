package apiclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// streamOperation reads the operation's events until it has ended or the stream has.
func (c *Client) streamOperation(ctx context.Context, f *following) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/operations/" + f.id.String() + "/events", accept: "text/event-stream"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return errNoStream
	}
	events := eventReader{lines: bufio.NewReaderSize(resp.Body, 64<<10)}
	for !f.last.Value.Ended() {
		name, data, err := events.next()
		if errors.Is(err, io.EOF) {
			return nil // the server lets streams go when it stops
		}
		if err != nil {
			return c.broken(ctx, err)
		}
		if name != "operation" {
			continue
		}
		var op Object[Operation]
		if err := json.Unmarshal(data, &op); err != nil {
			return errNoStream
		}
		f.saw(op)
	}
	return nil
}

// eventReader reads server-sent events, as the HTML standard defines them in section 9.2.
type eventReader struct {
	lines  *bufio.Reader
	lastID string // of the last block that had one
}

const maxEvent = 4 << 20

var errEventTooLarge = errors.New("an event is too large")

// next gives the next event that has data. An event that the end of the stream cuts off is dropped.
func (r *eventReader) next() (name string, data []byte, err error) {
	for some := false; ; {
		line, err := r.line()
		if err != nil {
			return "", nil, err
		}
		if line == "" {
			if some {
				return name, data, nil
			}
			name = ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			r.lastID = value
		case "event":
			name = value
		case "data":
			if some {
				data = append(data, '\n')
			}
			some = true
			data = append(data, value...)
			if len(data) > maxEvent {
				return "", nil, errEventTooLarge
			}
		}
	}
}

func (r *eventReader) line() (string, error) {
	var whole []byte
	for {
		part, err := r.lines.ReadSlice('\n')
		whole = append(whole, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(whole) <= maxEvent:
		case errors.Is(err, bufio.ErrBufferFull):
			return "", errEventTooLarge
		case err != nil:
			return "", err
		default:
			return strings.TrimRight(string(whole), "\r\n"), nil
		}
	}
}
