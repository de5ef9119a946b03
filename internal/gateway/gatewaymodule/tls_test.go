package gatewaymodule_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/pki"
)

// secured opens a gateway that speaks TLS with a certificate of its own authority, and gives clients that trust it: one without a
// certificate, one with.
func secured(t *testing.T, change func(cfg *gatewaymodule.Config, ca string)) (d *door, ca *pki.CA, dir string, without, with *http.Client) {
	t.Helper()
	dir = t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.IssueTo(dir, pki.Request{Name: "gateway", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	d = open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) {
		cfg.TLS = gatewaymodule.TLS{CertFile: cert, KeyFile: key}
		if change != nil {
			change(cfg, filepath.Join(dir, "ca.crt"))
		}
	})
	d.url = "https" + strings.TrimPrefix(d.url, "http")
	pool, err := pki.Pool(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	ownCert, ownKey, err := ca.IssueTo(dir, pki.Request{Name: "client"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pki.LoadPair(ownCert, ownKey)
	if err != nil {
		t.Fatal(err)
	}
	client := func(c *tls.Config) *http.Client {
		tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: patience}
	}
	return d, ca, dir, client(pki.ClientConfig(nil, pool)), client(pki.ClientConfig(pair, pool))
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

func TestTLSSpeaksHTTP2AndInsists(t *testing.T) {
	d, _, _, client, _ := secured(t, nil)
	resp, err := get(t, client, d.url+"/health")
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
		t.Errorf("%s %d %v", resp.Proto, resp.StatusCode, resp.Header)
	}
	resp, err = get(t, http.DefaultClient, "http"+strings.TrimPrefix(d.url, "https")+"/health")
	if err == nil && resp.StatusCode != 400 {
		t.Errorf("plain HTTP on the port of TLS: %d", resp.StatusCode)
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true} //nolint:gosec // that it is refused is the test
	if c, err := tls.Dial("tcp", strings.TrimPrefix(d.url, "https://"), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if plain := open(t, nil); plain.do(t, "GET", "/health", "", nil).header.Get("Strict-Transport-Security") != "" {
		t.Error("plain HTTP insists on TLS")
	}
}

func TestClientCertificates(t *testing.T) {
	d, _, _, without, with := secured(t, func(cfg *gatewaymodule.Config, ca string) { cfg.TLS.ClientCAFile = ca })
	if resp, err := get(t, without, d.url+"/health"); err == nil {
		t.Errorf("without a certificate: %d", resp.StatusCode)
	}
	if resp, err := get(t, with, d.url+"/health"); err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("with one: %v", err)
	}
}

// An authority that is taken from the file lets nobody in any more, also not who comes back to a session.
func TestClientAuthoritiesAreReadAnew(t *testing.T) {
	var file string
	d, _, _, _, with := secured(t, func(cfg *gatewaymodule.Config, ca string) {
		file = filepath.Join(filepath.Dir(ca), "clients.pem")
		text, err := os.ReadFile(ca)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		cfg.TLS.ClientCAFile = file
	})
	with.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for range 2 {
		if resp, err := get(t, with, d.url+"/health"); err != nil || resp.StatusCode != 200 {
			t.Fatalf("before: %v", err)
		}
		with.CloseIdleConnections()
	}
	other := filepath.Join(t.TempDir(), "other")
	if _, err := pki.Init(other, "other"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(other, "ca.crt"))
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(gatewaymodule.Default()); err != nil {
		t.Fatal(err)
	}
	if resp, err := get(t, with, d.url+"/health"); err == nil {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(gatewaymodule.Default()); err == nil {
		t.Error("a file without certificates was taken")
	}
}

func TestNewCertificateIsServedAfterReload(t *testing.T) {
	d, ca, dir, client, _ := secured(t, nil)
	serial := func() string {
		client.CloseIdleConnections()
		resp, err := get(t, client, d.url+"/health")
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	cert, key, err := ca.IssueTo(dir, pki.Request{Name: "gateway", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := gatewaymodule.Default()
	cfg.TLS = gatewaymodule.TLS{CertFile: cert, KeyFile: key}
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	after := serial()
	if after == before {
		t.Error("the old certificate is served")
	}
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(cfg); err == nil {
		t.Error("a broken key was taken")
	}
	if serial() != after {
		t.Error("the good certificate is not served any more")
	}
}

func TestPagesOfOtherOrigins(t *testing.T) {
	const ui = "https://ui.example.org"
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.Origins = []string{ui} })
	pre := d.do(t, "OPTIONS", "/api/v1/things", "", nil, "Origin", ui, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,idempotency-key")
	if pre.status != 204 || pre.header.Get("Access-Control-Allow-Origin") != ui || pre.header.Get("Access-Control-Allow-Methods") != "POST" ||
		pre.header.Get("Access-Control-Allow-Credentials") != "" || pre.header.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("preflight: %d %v", pre.status, pre.header)
	}
	a := d.do(t, "GET", "/api/v1/info", "", nil, "Origin", ui)
	if a.header.Get("Access-Control-Allow-Origin") != ui || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Retry-After") || !strings.Contains(strings.Join(a.header["Vary"], ","), "Origin") {
		t.Errorf("answer: %v", a.header)
	}
	for _, origin := range []string{"https://evil.example", "https://ui.example.org.evil.example", "null", "http://ui.example.org"} {
		for _, a := range []answer{d.do(t, "GET", "/api/v1/info", "", nil, "Origin", origin),
			d.do(t, "OPTIONS", "/api/v1/things", "", nil, "Origin", origin, "Access-Control-Request-Method", "POST")} {
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s may read: %v", origin, a.header)
			}
		}
	}
	closed := open(t, nil)
	if a := closed.do(t, "GET", "/api/v1/info", "", nil, "Origin", ui); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("without configuration a page of another origin may read")
	}
}

// A browser lets every page open a websocket anywhere: only the server can refuse it.
func TestWebsocketsOfOtherOrigins(t *testing.T) {
	const ui = "https://ui.example.org"
	with := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.Origins = []string{ui} })
	without := open(t, nil)
	for name, c := range map[string]struct {
		url    string
		origin []string
		status int
	}{
		"one that is configured":       {with.url, []string{ui}, 101},
		"its own":                      {with.url, []string{with.url}, 101},
		"a program":                    {with.url, nil, 101},
		"another one":                  {with.url, []string{"https://evil.example"}, 403},
		"one that begins alike":        {with.url, []string{ui + ".evil.example"}, 403},
		"none that can be told":        {with.url, []string{"null"}, 403},
		"two, one of them configured":  {with.url, []string{ui, "https://evil.example"}, 403},
		"two, the other one first":     {with.url, []string{"https://evil.example", ui}, 403},
		"its own, nothing configured":  {without.url, []string{without.url}, 101},
		"one, while none is permitted": {without.url, []string{ui}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			socket, answer, err := websocket.Dial(ctx, strings.Replace(c.url, "http", "ws", 1)+"/api/v1/socket", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": c.origin}})
			if answer == nil {
				t.Fatal(err)
			}
			if answer.StatusCode != c.status {
				t.Errorf("answered %d, %v", answer.StatusCode, err)
			}
			if socket != nil {
				_ = socket.CloseNow()
			}
		})
	}
}

func TestVersions(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) {
		cfg.Routes = []gatewaymodule.Rule{{Path: "/api/things/*", Deprecated: "2026-12-31", Sunset: "2027-12-31"}}
	})
	for version, want := range map[string]int{"": 200, "v1": 200, "v2": 400, "1": 400} {
		a := d.do(t, "GET", "/api/info", "", nil, "API-Version", version)
		if a.status != want || a.header.Get("API-Version") != "v1" {
			t.Errorf("%q: %d %v", version, a.status, a.header)
		}
		if want == 400 && a.problem(t).Code != gateway.ErrUnknownVersion.Code {
			t.Errorf("%q: %s", version, a.body)
		}
	}
	if a := d.do(t, "GET", "/api/v1/info", "", nil, "API-Version", "v2"); a.status != 200 {
		t.Errorf("the path says v1: %d", a.status)
	}
	a := d.do(t, "GET", aThing(), d.admin, nil)
	day := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	if a.header.Get("Deprecation") != "@1798675200" || day.Unix() != 1798675200 || a.header.Get("Sunset") != "Fri, 31 Dec 2027 00:00:00 GMT" {
		t.Errorf("%v", a.header)
	}
	if a := d.do(t, "GET", "/api/v1/info", "", nil); a.header.Get("Deprecation") != "" {
		t.Error("another route is deprecated, too")
	}
}
