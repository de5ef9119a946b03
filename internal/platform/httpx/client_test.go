package httpx

import (
	"net/netip"
	"strings"
	"testing"
)

func TestClientInfoIsTidied(t *testing.T) {
	t.Parallel()
	agent := strings.Repeat("a", maxUserAgent-1) + "é\x00"
	ctx := WithClientInfo(t.Context(), Client{Addr: netip.MustParseAddr("::ffff:192.0.2.1"), UserAgent: agent})
	got := ClientInfo(ctx)
	if got.Addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("address %v, want the IPv4 one", got.Addr)
	}
	if got.UserAgent != strings.Repeat("a", maxUserAgent-1) {
		t.Errorf("user agent %q was not cut at a whole character", got.UserAgent)
	}
	if got := ClientInfo(WithClientInfo(t.Context(), Client{UserAgent: "a\x00b"})).UserAgent; got != "ab" {
		t.Errorf("user agent %q still holds NUL", got)
	}
	if ClientInfo(t.Context()).Addr.IsValid() {
		t.Error("a context without a client has an address")
	}
}
