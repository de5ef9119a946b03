package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// dialTimeout is how long it may take to connect and to find out who the other side is.
const dialTimeout = 5 * time.Second

// notConnected is why nothing could be sent: nobody there, or not who it should be.
type notConnected struct{ error }

func (n notConnected) Unwrap() error { return n.error }

// dial gives the function that connects to a process by the authorities of that moment.
func dial(secure func() *tls.Config, http2 string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		config := secure()
		config.NextProtos = []string{"http/1.1"}
		if old, _ := ctx.Value(upgradeKey{}).(bool); http2 == HTTP2Auto && !old {
			config.NextProtos = []string{"h2", "http/1.1"}
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}, Config: config}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, notConnected{err}
		}
		return conn, nil
	}
}

type upgradeKey struct{}

// forUpgrade says that a connection becomes a websocket, which it can be over HTTP/1.1 alone. The transport keeps such connections apart.
func forUpgrade(ctx context.Context) context.Context {
	return context.WithValue(ctx, upgradeKey{}, true)
}

// unsent tells that a try failed before anything was sent, so that it may be made elsewhere whatever the request is.
func unsent(err error) bool {
	var failed notConnected
	return errors.As(err, &failed)
}
