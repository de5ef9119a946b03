package httpx

import (
	"context"
	"net/netip"
	"strings"
)

// Client is what the edge knows of who is at the other end of the connection. It is for throttling and for showing users their
// sessions; it proves nothing.
type Client struct {
	Addr      netip.Addr // without zone and port; invalid where it is not known
	UserAgent string     // as the client says it: valid UTF-8 without NUL, at most 256 bytes
}

// clientInfo is a context with a Client in it.
type clientInfo struct {
	context.Context
	client Client
}

type clientKey struct{}

// Value implements context.Context.
func (c *clientInfo) Value(key any) any {
	if _, ok := key.(clientKey); ok {
		return &c.client
	}
	return c.Context.Value(key)
}

// maxUserAgent bounds what a client can make the server keep.
const maxUserAgent = 256

// WithClientInfo puts the client's address and user agent into the context. The edge does it, once it has decided which of the
// forwarding headers it trusts.
func WithClientInfo(ctx context.Context, c Client) context.Context {
	c.Addr = c.Addr.Unmap().WithZone("")
	if len(c.UserAgent) > maxUserAgent {
		c.UserAgent = c.UserAgent[:maxUserAgent]
	}
	c.UserAgent = strings.ReplaceAll(strings.ToValidUTF8(c.UserAgent, ""), "\x00", "")
	return &clientInfo{Context: ctx, client: c}
}

// ClientInfo gives what WithClientInfo put in, or the zero value.
func ClientInfo(ctx context.Context) Client {
	if c, ok := ctx.Value(clientKey{}).(*Client); ok {
		return *c
	}
	return Client{}
}
