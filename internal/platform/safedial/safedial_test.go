package safedial_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/safedial"
)

func TestAllows(t *testing.T) {
	policy := safedial.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}}
	for address, want := range map[string]bool{
		"9.9.9.9": true, "2620:fe::fe": true, "10.1.2.3": true, "fd12::1": true, "::ffff:9.9.9.9": true,
		"127.0.0.1": false, "::1": false, "10.2.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "fe80::1%eth0": false,
		"fd00:ec2::254": false, "100.100.100.200": false, "168.63.129.16": false, "0.0.0.0": false, "::": false, "0.1.2.3": false, "224.0.0.1": false, "ff02::1": false,
		"255.255.255.255": false, "::ffff:127.0.0.1": false, "::ffff:10.2.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::127.0.0.1": false,
		"192.0.2.1": false, "2001:db8::1": false,
	} {
		if got := policy.Allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !(safedial.Policy{Any: true}).Allows(netip.MustParseAddr("127.0.0.1")) {
		t.Error("any is not any")
	}
}

// What a name leads to is judged, not the name, and at each redirect again.
func TestConnectionsAreJudged(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) }))
	defer inside.Close()
	for _, url := range []string{inside.URL, strings.Replace(inside.URL, "127.0.0.1", "localhost", 1), strings.Replace(inside.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1),
		strings.Replace(inside.URL, "127.0.0.1", "0x7f000001", 1)} {
		resp, err := (&http.Client{Transport: safedial.Policy{}.Transport(5 * time.Second)}).Get(url)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s was reached", url)
		} else if !errors.Is(err, safedial.ErrRefused) && !strings.Contains(err.Error(), "0x7f000001") { // no resolver takes that for a name
			t.Errorf("%s: %v", url, err)
		}
	}
	outside := httptest.NewUnstartedServer(http.RedirectHandler(inside.URL, http.StatusFound))
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	outside.Listener = listener
	outside.Start()
	defer outside.Close()
	client := &http.Client{Transport: safedial.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}.Transport(5 * time.Second)}
	if resp, err := client.Get(outside.URL); err == nil {
		resp.Body.Close()
		t.Error("a redirect led inside")
	} else if !errors.Is(err, safedial.ErrRefused) || !strings.Contains(err.Error(), inside.URL) {
		t.Errorf("redirect: %v", err)
	}
}
