package httpx

import (
	"context"
	"net/netip"
)

// ClientInfo is what the edge knows of who is at the other end of the connection. It is for throttling and for showing
// a user their sessions; it proves nothing.
type ClientInfo struct {
	Addr      netip.Addr // of the client, without zone and port; invalid where it is not known
	UserAgent string     // as the client says it, at most 256 bytes
}

type clientKey struct{}

// maxUserAgent bounds what a client can make the server keep.
const maxUserAgent = 256

// WithClientInfo puts the client's address and user agent into the context. The edge does it, once it has decided which of the
// forwarding headers it trusts.
func WithClientInfo(ctx context.Context, info ClientInfo) context.Context {
	info.Addr = info.Addr.Unmap().WithZone("")
	if len(info.UserAgent) > maxUserAgent {
		info.UserAgent = info.UserAgent[:maxUserAgent]
	}
	return context.WithValue(ctx, clientKey{}, info)
}

// ClientInfoFrom gives what WithClientInfo put in, or the zero value.
func ClientInfoFrom(ctx context.Context) ClientInfo {
	info, _ := ctx.Value(clientKey{}).(ClientInfo)
	return info
}
