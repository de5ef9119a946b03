// Package apiclient speaks NovaCron's REST API for the command line. It knows nothing of the server's insides: what it sends and reads is
// the public contract.
package apiclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Tokens are what a login gives.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	Server string // http://HOST:PORT
	// Save is told of new tokens, to keep them. May be nil.
	Save func(Tokens) error
	HTTP *http.Client // nil: http.DefaultClient

	mu     sync.Mutex // guards tokens
	tokens Tokens
}

// SetTokens gives the client tokens of an earlier login.
func (c *Client) SetTokens(t Tokens) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = t
}

func (c *Client) access() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens.AccessToken
}

// Error is a request that the server refused.
type Error struct{ errs.Problem }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if e.Step != "" {
		fmt.Fprintf(&b, " (at step %s)", e.Step)
	}
	fmt.Fprintf(&b, " [%s]", e.Code)
	for _, f := range e.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", f.Location, f.Message)
	}
	if e.Action != "" {
		b.WriteString("\n" + e.Action)
	}
	return b.String()
}

// ErrUnreachable says that the server could not be spoken to.
var ErrUnreachable = errors.New("the server cannot be reached")

// ErrNotLoggedIn says that there are no tokens for the server.
var ErrNotLoggedIn = errors.New("you are not logged in; run 'novacron login'")

// tries is how often a request that may be repeated is sent.
const tries = 4

// Do sends a request with a JSON body, or none, and decodes the answer into out, which may be nil. Requests that can be repeated safely are
// repeated while the server says that it is unavailable; an expired access token is renewed once.
func (c *Client) Do(ctx context.Context, method, path string, body, out any) error {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	header := http.Header{}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost && !strings.HasPrefix(path, "/auth/") {
		header.Set("Idempotency-Key", rand.Text()) // so that a repeated POST is one
	}
	renewed := false
	for n := 1; ; n++ {
		err := c.once(ctx, method, path, header, bytes.NewReader(encoded), out)
		var refused *Error
		switch {
		case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && !renewed && !strings.HasPrefix(path, "/auth/"):
			renewed = true
			if rErr := c.renew(ctx); rErr != nil {
				return err
			}
		case n < tries && (errors.Is(err, ErrUnreachable) && n > 1 || errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable):
			if err := Pause(ctx, time.Duration(n)*time.Second); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// Pause waits for d, or for the end of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) once(ctx context.Context, method, path string, header http.Header, body io.Reader, out any) error {
	resp, err := c.send(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return nil
}

// send answers a response of a status below 300, or an error.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = header.Clone()
	if token := c.access(); token != "" && !strings.HasPrefix(path, "/auth/login") && !strings.HasPrefix(path, "/auth/refresh") {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Server, err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close()
	refused := &Error{}
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(content, &refused.Problem) != nil || refused.Code == "" {
		return nil, fmt.Errorf("%s %s: the server answered %s, which NovaCron does not: is %s its address?", method, path, resp.Status, c.Server)
	}
	return nil, refused
}

// Login gets tokens for a user and keeps them.
func (c *Client) Login(ctx context.Context, username, password string) error {
	var t Tokens
	if err := c.Do(ctx, http.MethodPost, "/auth/login", map[string]string{"username": username, "password": password}, &t); err != nil {
		return err
	}
	return c.keep(t)
}

func (c *Client) keep(t Tokens) error {
	c.SetTokens(t)
	if c.Save == nil {
		return nil
	}
	return c.Save(t)
}

// renew trades the refresh token for new tokens.
func (c *Client) renew(ctx context.Context) error {
	c.mu.Lock()
	refresh := c.tokens.RefreshToken
	c.mu.Unlock()
	if refresh == "" {
		return ErrNotLoggedIn
	}
	var t Tokens
	if err := c.once(ctx, http.MethodPost, "/auth/refresh", http.Header{"Content-Type": {"application/json"}},
		strings.NewReader(fmt.Sprintf(`{"refresh_token":%q}`, refresh)), &t); err != nil {
		return err
	}
	return c.keep(t)
}

// Logout ends the session on the server.
func (c *Client) Logout(ctx context.Context) error {
	return c.Do(ctx, http.MethodPost, "/auth/logout", nil, nil)
}

// page is one answer of a list.
type page struct {
	Items      []json.RawMessage `json:"items"`
	NextCursor string            `json:"next_cursor"`
}

// List follows a list to its end, or until it has limit items (0: all), and gives them as the server sent them.
func (c *Client) List(ctx context.Context, path string, query url.Values, limit int) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	query = url.Values(http.Header(query).Clone())
	if query == nil {
		query = url.Values{}
	}
	for {
		var p page
		target := path
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
		if err := c.Do(ctx, http.MethodGet, target, nil, &p); err != nil {
			return nil, err
		}
		items = append(items, p.Items...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		if p.NextCursor == "" {
			return items, nil
		}
		query.Set("cursor", p.NextCursor)
	}
}

// Upload sends a file as an image and answers what the server made of it. progress is told of the bytes sent; it may be nil.
func (c *Client) Upload(ctx context.Context, query url.Values, content io.Reader, progress func(int64)) (json.RawMessage, error) {
	if err := c.Do(ctx, http.MethodGet, "/api/v1/me", nil, nil); err != nil { // renews the token before the bytes are on their way
		return nil, err
	}
	var answer json.RawMessage
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	err := c.once(ctx, http.MethodPost, "/api/v1/images?"+query.Encode(), header, &counter{r: content, told: progress}, &answer)
	return answer, err
}

// counter tells of what was read.
type counter struct {
	r    io.Reader
	n    int64
	told func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.told != nil {
		c.told(c.n)
	}
	return n, err
}

// ConsoleLog reads a part of a virtual machine's console log and tells where it begins.
func (c *Client) ConsoleLog(ctx context.Context, id string, offset int64) (data []byte, at int64, err error) {
	if err := c.Do(ctx, http.MethodGet, "/api/v1/me", nil, nil); err != nil {
		return nil, 0, err
	}
	resp, err := c.send(ctx, http.MethodGet, "/api/v1/vms/"+id+"/console/log?offset="+strconv.FormatInt(offset, 10), http.Header{}, nil)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	at, err = strconv.ParseInt(resp.Header.Get("X-Console-Offset"), 10, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("read answer: %w", err)
	}
	data, err = io.ReadAll(resp.Body)
	return data, at, err
}

// LoggedIn tells whether there are tokens to send.
func (c *Client) LoggedIn() bool { return c.access() != "" }
