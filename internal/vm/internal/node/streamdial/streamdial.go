// Package streamdial fetches and connects the bulk streams of the controller, which a command names by URL. Bulk bytes never travel
// on the bus.
//
// A URL is http(s)://… or unix:<socket path>:<http path>, the latter where controller and node share a host.
package streamdial

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Protocol is the name in the Upgrade header of a stream that runs both ways.
const Protocol = "novacron-stream"

// Dialer reaches the controller. The zero value does over plain HTTP and unix sockets.
type Dialer struct {
	TLS *tls.Config // for https; the node's own certificate is in it
}

// StatusError is an answer other than the one that was hoped for.
type StatusError struct {
	Status int
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the stream answered %d %s", e.Status, http.StatusText(e.Status))
}

// connectTimeout bounds how long it may take to reach the controller and get the head of its answer.
const connectTimeout = 10 * time.Second

// target is a parsed stream URL.
type target struct {
	socket string // empty: TCP
	url    *url.URL
}

func parse(raw string) (target, error) {
	if rest, ok := strings.CutPrefix(raw, "unix:"); ok {
		socket, path, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(socket, "/") || !strings.HasPrefix(path, "/") {
			return target{}, fmt.Errorf("stream URL %q is not unix:<socket>:<path>", raw)
		}
		u, err := url.Parse("http://controller" + path)
		if err != nil {
			return target{}, fmt.Errorf("parse stream URL: %w", err)
		}
		return target{socket, u}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, fmt.Errorf("parse stream URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return target{}, fmt.Errorf("stream URL %q has an unknown scheme", raw)
	}
	return target{"", u}, nil
}

func (d Dialer) dial(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var plain net.Dialer
	if t.socket != "" {
		return plain.DialContext(ctx, "unix", t.socket)
	}
	host, port := t.url.Hostname(), t.url.Port()
	if port == "" {
		port = t.url.Scheme // net knows the ports of http and https by name
	}
	address := net.JoinHostPort(host, port)
	if t.url.Scheme == "http" {
		return plain.DialContext(ctx, "tcp", address)
	}
	conf := d.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	conf.NextProtos = []string{"http/1.1"}
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", address)
}

// Get fetches a stream from an offset on. It answers where the body begins, which is zero when the other side ignored the
// offset. The caller closes the body.
func (d Dialer) Get(ctx context.Context, raw string, offset int64) (body io.ReadCloser, begin int64, err error) {
	t, err := parse(raw)
	if err != nil {
		return nil, 0, err
	}
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx, t) },
		DialTLSContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx, t) },
		ResponseHeaderTimeout: connectTimeout,
		DisableKeepAlives:     true,
		DisableCompression:    true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("make the stream's request: %w", err)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch the stream: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && offset > 0:
		var first int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err == nil && first == offset {
			return resp.Body, offset, nil
		}
		err = errors.New("the stream answered another range than was asked for")
	default:
		err = &StatusError{resp.StatusCode}
	}
	_ = resp.Body.Close()
	return nil, 0, err
}

// Upgrade connects a stream that runs both ways: a POST with the header "Upgrade: novacron-stream", answered by 101, after which
// the connection carries raw bytes. Reads return io.EOF when the other side has closed its end.
func (d Dialer) Upgrade(ctx context.Context, raw string) (net.Conn, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, err
	}
	conn, err := d.dial(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("reach the stream: %w", err)
	}
	upgraded, err := upgrade(ctx, conn, t.url)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return upgraded, nil
}

func upgrade(ctx context.Context, conn net.Conn, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make the stream's request: %w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask for the stream: %w", err)
	}
	buffered := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buffered, req)
	if err != nil {
		return nil, fmt.Errorf("read the stream's answer: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return nil, &StatusError{resp.StatusCode}
	}
	if !strings.EqualFold(resp.Header.Get("Upgrade"), Protocol) {
		return nil, fmt.Errorf("the stream switched to %q", resp.Header.Get("Upgrade"))
	}
	if !stop() { // the context ended just now and the deadline is set
		return nil, context.Cause(ctx)
	}
	return &upgradedConn{Conn: conn, r: buffered}, nil
}

// upgradedConn reads first what came behind the answer's head.
type upgradedConn struct {
	net.Conn
	r *bufio.Reader
}

// Read implements io.Reader.
func (c *upgradedConn) Read(p []byte) (int, error) { return c.r.Read(p) }
