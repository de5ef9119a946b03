package gatewaymodule

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/rs/cors"

	"github.com/novacron/novacron/internal/gateway/internal/limit"
	"github.com/novacron/novacron/internal/gateway/internal/policy"
	"github.com/novacron/novacron/internal/gateway/internal/upstream"
)

// Rule is what an operator says about a route, or about all routes below a path.
type Rule = policy.Rule

// Off takes back what less specific rules say.
const Off = policy.Off

// Config is what the module is told at start.
type Config struct {
	Listen            string        // HOST:PORT; port 0 takes a free one
	ReadHeaderTimeout time.Duration // a client has so long to send the head of a request
	IdleTimeout       time.Duration // an idle connection is closed after so long
	ReadStall         time.Duration // a body whose bytes stop coming for so long ends the request
	WriteStall        time.Duration // a client that takes nothing of an answer for so long loses the connection
	MaxHeaderBytes    int           // the most the head of a request may have; more is answered with 431
	MaxUploadBytes    int64         // the most any body may have; each route has a limit of its own below that
	DrainDelay        time.Duration // at the end, /ready answers 503 for so long before the listener is closed
	DrainGrace        time.Duration // requests that are being answered then may take so long; after it their context ends

	TLS TLS // zero: plain HTTP

	Internal TLS // what the gateway shows to them: a certificate with a key on P-256, and ClientCAFile for theirs

	// What follows can be changed by Reload.
	Services []Service     // modules that run in other processes
	Origins  []string      // of web pages that may use the API: https://ui.example.org; none: only pages of the API's own origin
	Proxies  []string      // ranges of addresses that are believed what they say in X-Forwarded-For
	HSTS     time.Duration // how long browsers shall insist on TLS; only told over TLS
	Routes   []Rule        // besides the built-in ones; one of the same path replaces it
	Rates    Rates         // for all routes together
	Timeout  time.Duration // of answers on routes that have none of their own; 0: none
}

// Service is a module that runs in another process.
type Service = upstream.Config

// TLS says how the listener proves who it is.
type TLS struct {
	CertFile, KeyFile string // PEM; they may be replaced at any time
	ClientCAFile      string // PEM; if given, clients must show a certificate that one of these authorities signed
}

// Rates are limits written as "100/minute" or "unlimited".
type Rates struct {
	User    string // requests of one user, those with API keys included
	Key     string // requests with one API key, besides
	Tenant  string // what the requests of one tenant may cost together; a list or a change costs 5, an object that is read 1
	Address string // requests of one client address
}

// limits reads the rates; Validate has seen them.
func (r Rates) limits() limit.Rates {
	var l limit.Rates
	l.User, _ = policy.ParseRate(r.User)
	l.Key, _ = policy.ParseRate(r.Key)
	l.Tenant, _ = policy.ParseRate(r.Tenant)
	l.Address, _ = policy.ParseRate(r.Address)
	return l
}

// rules gives the built-in rules and those of the configuration behind them.
func (c Config) rules() []Rule { return append(policy.Defaults(), c.Routes...) }

// Default gives the usual limits.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8080", ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ReadStall: 30 * time.Second,
		WriteStall: 30 * time.Second, MaxHeaderBytes: 64 << 10, MaxUploadBytes: 65 << 30, DrainGrace: 10 * time.Second,
		Rates: Rates{User: "6000/minute", Key: "unlimited", Tenant: "60000/minute", Address: "12000/minute"}, Timeout: time.Minute,
		HSTS: 365 * 24 * time.Hour,
	}
}

// Validate lists every mistake.
func (c Config) Validate() []error {
	var failed []error
	check := func(ok bool, path, rule string) {
		if !ok {
			failed = append(failed, fmt.Errorf("http.%s: %s", path, rule))
		}
	}
	_, port, err := net.SplitHostPort(c.Listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	check(err == nil && portErr == nil, "listen", "must be HOST:PORT")
	check(c.ReadHeaderTimeout > 0, "read_header_timeout", "must be positive")
	check(c.IdleTimeout > 0, "idle_timeout", "must be positive")
	check(c.ReadStall > 0, "read_stall_timeout", "must be positive")
	check(c.WriteStall > 0, "write_stall_timeout", "must be positive")
	check(c.MaxHeaderBytes >= 4<<10, "max_header_bytes", "must be at least 4096")
	check(c.MaxUploadBytes >= 1<<20, "max_upload_bytes", "must be at least 1 MiB")
	check(c.DrainDelay >= 0, "drain_delay", "must not be negative")
	check(c.DrainGrace >= 0, "drain_grace", "must not be negative")
	check((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "tls", "cert_file and key_file must be given together")
	check(c.TLS.ClientCAFile == "" || c.TLS.CertFile != "", "tls.client_ca_file", "needs cert_file and key_file")
	for i, svc := range c.Services {
		for _, err := range svc.Validate() {
			failed = append(failed, fmt.Errorf("gateway.services[%d].%w", i, err))
		}
	}
	if i := c.Internal; len(c.Services) > 0 && (i.CertFile == "" || i.KeyFile == "" || i.ClientCAFile == "") {
		failed = append(failed, errors.New("gateway.services: needs internal.cert_file, internal.key_file and internal.ca_file, which 'novacron pki issue gateway' makes"))
	}
	check(c.HSTS >= 0, "tls.hsts", "must not be negative")
	for _, o := range c.Origins {
		u, err := url.Parse(o)
		check(o == "*" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && o == u.Scheme+"://"+u.Host, "cors_origins",
			strconv.Quote(o)+" is not an origin; write it as https://ui.example.org")
	}
	for _, text := range c.Proxies {
		_, err := parseRange(text)
		check(err == nil, "trusted_proxies", strconv.Quote(text)+" is no range of addresses; write it as 10.1.2.0/28, or as one address")
	}
	if c.Timeout < 0 {
		failed = append(failed, errors.New("gateway.timeout: must not be negative"))
	}
	for path, rate := range map[string]string{"user": c.Rates.User, "key": c.Rates.Key, "tenant": c.Rates.Tenant, "address": c.Rates.Address} {
		if _, err := policy.ParseRate(rate); err != nil {
			failed = append(failed, fmt.Errorf("gateway.rate_limit.%s: %w", path, err))
		}
	}
	for i, r := range c.Routes {
		for _, err := range r.Validate() {
			failed = append(failed, fmt.Errorf("gateway.routes[%d].%w", i, err))
		}
	}
	return failed
}

// parseRange reads a range of addresses, or one address.
func parseRange(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Prefix(addr.BitLen())
	}
	return netip.ParsePrefix(s)
}

// proxies reads the ranges; Validate has seen them.
func (c Config) proxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.Proxies {
		if p, err := parseRange(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// cors makes what pages of other origins may do; nil where there are none. Credentials are never sent by a browser on its own, so no
// cookie is let through.
func (c Config) cors() *cors.Cors {
	if len(c.Origins) == 0 {
		return nil
	}
	return cors.New(cors.Options{
		AllowedOrigins: c.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Accept", "Idempotency-Key", "If-Match", "If-None-Match", "Prefer", "X-API-Key", "X-Request-ID",
			"API-Version", "Last-Event-ID", "Traceparent", "X-Tenant-ID", "Content-Range", "Upload-Offset", "Cache-Control"},
		ExposedHeaders: []string{"API-Version", "ETag", "Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "X-Request-ID",
			"Server-Timing", "Age", "X-Cache", "Deprecation", "Sunset", "Content-Disposition", "Idempotency-Replayed", "Upload-Offset", "Upload-Length",
			"X-Console-Offset", "X-Console-Size"},
		MaxAge: int((10 * time.Minute).Seconds()),
	})
}

// hsts is the value of Strict-Transport-Security; empty where it must not be sent.
func (c Config) hsts() string {
	if c.TLS.CertFile == "" || c.HSTS == 0 {
		return ""
	}
	return "max-age=" + strconv.Itoa(int(c.HSTS.Seconds()))
}
