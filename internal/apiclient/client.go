package apiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Config says how to reach a server.
type Config struct {
	BaseURL   string       // "http://127.0.0.1:8080"; a path in front of the API's is kept
	Tokens    TokenStore   // nil: in memory
	HTTP      *http.Client // nil: one of its own, without a limit on the time of a request
	UserAgent string
	// Roots are the authorities that the server's certificate is checked against, where HTTP is nil. Nil: those of the system.
	Roots *x509.CertPool
	// Tenant is the id or the name of the tenant to act in. Empty: the caller's own.
	Tenant string
	// Timeout bounds an ordinary request; uploads and streams have no bound but their context. 0: a minute.
	Timeout time.Duration
	// Patience is how long an operation is followed while the server does not answer, because it restarts for example. 0: a minute.
	Patience time.Duration
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL
	now  func() time.Time

	tenantMu sync.Mutex // guards tenantID
	tenantID uuid.UUID  // of cfg.Tenant, where that is a name; nil until it is known
}

// ErrBaseURL is what New answers to an address that is none.
var ErrBaseURL = errors.New("must look like http://HOST:PORT or https://HOST")

// New makes a client. It sends nothing.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.BaseURL, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("the server's address %q %w", cfg.BaseURL, ErrBaseURL)
	}
	if cfg.Tokens == nil {
		cfg.Tokens = &MemoryTokens{}
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ExpectContinueTimeout: 2 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		}}
	}
	if cfg.HTTP.CheckRedirect == nil {
		own := *cfg.HTTP
		own.CheckRedirect = keepKeyHome
		cfg.HTTP = &own
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	return &Client{cfg: cfg, base: base, now: time.Now}, nil
}

// maxRedirects is what net/http follows by default.
const maxRedirects = 10

// keepKeyHome lets no redirection take an API key to another server. net/http sees to that for the header Authorization only.
func keepKeyHome(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirections", maxRedirects)
	}
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		req.Header.Del(headerAPIKey)
	}
	return nil
}

// BaseURL gives the server's address, without a slash at its end.
func (c *Client) BaseURL() string { return c.base.String() }

// call is one request.
type call struct {
	method, path string
	query        url.Values
	body         any         // sent as JSON; nil: none
	upload       *upload     // sent instead of body
	accept       string      // "": application/json
	anonymous    bool        // sent without a token
	key          string      // Idempotency-Key, which makes a POST repeatable
	ifMatch      string      // If-Match
	header       http.Header // further ones
}

func (cl call) repeatable() bool {
	if cl.upload != nil && !cl.upload.canRewind() {
		return false
	}
	return cl.method != http.MethodPost && cl.method != http.MethodPatch || cl.key != ""
}

const (
	maxAttempts = 4
	firstPause  = 200 * time.Millisecond // doubled at each repetition
	longestWait = 15 * time.Second       // a server that asks for more gets no repetition
	maxAnswer   = 64 << 20
)

// newKey makes an Idempotency-Key.
func newKey() string { return uuid.NewString() }

// bounded ends an ordinary request that takes too long.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.cfg.Timeout, &Error{Problem: errs.Problem{Code: CodeTimeout, Retryable: true,
		Detail: fmt.Sprintf("%s did not answer within %s", c.base, c.cfg.Timeout)}})
}

// json sends an ordinary request and decodes the answer into out, unless that is nil.
func (c *Client) json(ctx context.Context, cl call, out any) error {
	if cl.upload == nil {
		var cancel context.CancelFunc
		ctx, cancel = c.bounded(ctx)
		defer cancel()
	}
	resp, err := c.do(ctx, cl)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.broken(ctx, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		e := protocolError("the answer to %s %s cannot be read", cl.method, cl.path)
		e.cause = err
		return e
	}
	return nil
}

// do sends a request, again where that is safe and helps, and gives an answer below 400, whose body the caller closes.
func (c *Client) do(ctx context.Context, cl call) (*http.Response, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		resp, err := c.authorized(ctx, cl)
		if err == nil {
			return resp, nil
		}
		wait, again := repeatAfter(err, pause)
		if !again || !cl.repeatable() || attempt == maxAttempts || ctx.Err() != nil {
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, c.broken(ctx, err)
		}
		pause *= 2
	}
}

// repeatAfter tells whether and when a failed request is worth another try. A server that is not there is not waited for.
func repeatAfter(err error, pause time.Duration) (time.Duration, bool) {
	var e *Error
	if !errors.As(err, &e) {
		return 0, false
	}
	switch e.Status {
	case 0:
		return pause, e.Code == CodeUnreachable && !errors.Is(err, syscall.ECONNREFUSED) && !isNameError(err)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return max(e.RetryAfter, pause), e.Retryable && e.RetryAfter <= longestWait
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return pause, true
	default: // an earlier try of the same request is still at work
		return pause, e.Code == "idempotency.in_progress"
	}
}

// ended says why a context has ended: canceled is canceled, whatever by, and a time that was up has its own words.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return context.Cause(ctx)
}

func isNameError(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// authorized sends a request once, and a second time with a new token where the server does not take the one it got.
func (c *Client) authorized(ctx context.Context, cl call) (*http.Response, error) {
	if cl.anonymous {
		return c.send(ctx, cl, Tokens{}, uuid.Nil)
	}
	t, err := c.access(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.acting(ctx, cl, t)
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		return resp, err
	}
	if t.Access == "" && t.APIKey == "" {
		refused.Code, refused.Detail, refused.Action = CodeNotLoggedIn, "you are not logged in to "+c.base.String(), "Log in first."
		return nil, refused
	}
	if t.Refresh == "" || cl.upload != nil && !cl.upload.canRewind() {
		return nil, refused
	}
	if t, err = c.renew(ctx, t); err != nil {
		return nil, err
	}
	return c.acting(ctx, cl, t)
}

// acting sends a request once, to act in the tenant that is meant.
func (c *Client) acting(ctx context.Context, cl call, t Tokens) (*http.Response, error) {
	tenant, err := c.actIn(ctx, t)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, cl, t, tenant)
}

// send sends a request once, with the credentials that there are. A nil tenant is the caller's own.
func (c *Client) send(ctx context.Context, cl call, t Tokens, tenant uuid.UUID) (*http.Response, error) {
	target := c.base.JoinPath(cl.path)
	target.RawQuery = cl.query.Encode()
	req, err := http.NewRequestWithContext(ctx, cl.method, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", cl.method, cl.path, err)
	}
	req.Header.Set("Accept", "application/json")
	if cl.accept != "" {
		req.Header.Set("Accept", cl.accept)
	}
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	t.attach(req.Header)
	if tenant != uuid.Nil {
		req.Header.Set("X-Tenant-ID", tenant.String())
	}
	if cl.ifMatch != "" {
		req.Header.Set("If-Match", cl.ifMatch)
	}
	for name := range cl.header {
		req.Header.Set(name, cl.header.Get(name))
	}
	if cl.key != "" {
		req.Header.Set("Idempotency-Key", cl.key)
	}
	switch {
	case cl.upload != nil:
		detach, err := cl.upload.attach(req)
		if err != nil {
			return nil, err
		}
		defer detach() // the answer is there; what the transport has not read by now it shall not read
	case cl.body != nil:
		raw, err := json.Marshal(cl.body)
		if err != nil {
			return nil, fmt.Errorf("encode body of %s %s: %w", cl.method, cl.path, err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, errorOf(resp)
	}
	return resp, nil
}

// broken names what kept an answer from arriving: the caller who gave up, the time that was up, or the network.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	var local *uploadError
	if errors.As(err, &local) {
		return local
	}
	var unwanted *url.Error
	if errors.As(err, &unwanted) { // its text repeats method and address
		err = unwanted.Err
	}
	return &Error{cause: err, Problem: errs.Problem{Code: CodeUnreachable, Detail: fmt.Sprintf("cannot reach %s: %v", c.base, err), Retryable: true}}
}
