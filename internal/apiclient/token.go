package apiclient

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const headerAPIKey = "X-Api-Key"

// Tokens are what a login gives, or the API key that takes its place.
type Tokens struct {
	Access    string    `json:"access_token"`
	Refresh   string    `json:"refresh_token"`
	ExpiresAt time.Time `json:"expires_at"` // of the access token, by this machine's clock
	Username  string    `json:"username,omitempty"`
	APIKey    string    `json:"api_key,omitempty"` // then there are no tokens
}

// attach puts the credentials into a request's header.
func (t Tokens) attach(h http.Header) {
	switch {
	case t.APIKey != "":
		h.Set(headerAPIKey, t.APIKey)
	case t.Access != "":
		h.Set("Authorization", "Bearer "+t.Access)
	}
}

// TokenStore keeps the tokens of one server. Its methods may be called concurrently.
type TokenStore interface {
	// Load gives the tokens, or the zero value where nobody is logged in.
	Load(ctx context.Context) (Tokens, error)
	// Update replaces the tokens by what change makes of them. No other Update, of any process that shares the store, runs meanwhile.
	// Where change fails nothing is replaced. Zero tokens are forgotten.
	Update(ctx context.Context, change func(Tokens) (Tokens, error)) error
}

// KeyTokens gives a TokenStore that holds an API key and ends with the process.
func KeyTokens(key string) *MemoryTokens { return &MemoryTokens{tokens: Tokens{APIKey: key}} }

// MemoryTokens is a TokenStore that ends with the process. Its zero value is empty and ready.
type MemoryTokens struct {
	mu     sync.Mutex // guards tokens and orders updates
	tokens Tokens
}

// Load implements TokenStore.
func (m *MemoryTokens) Load(context.Context) (Tokens, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens, nil
}

// Update implements TokenStore.
func (m *MemoryTokens) Update(_ context.Context, change func(Tokens) (Tokens, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, err := change(m.tokens)
	if err == nil {
		m.tokens = changed
	}
	return err
}

const (
	// expirySlack renews a token that would end on the way.
	expirySlack = 30 * time.Second
	// refreshTimeout bounds a renewal, which goes on when the caller gives up: the answer holds the only refresh token that still works.
	refreshTimeout = 30 * time.Second
)

// access gives a token that has not expired, or none where nobody is logged in.
func (c *Client) access(ctx context.Context) (Tokens, error) {
	t, err := c.cfg.Tokens.Load(ctx)
	if err != nil {
		return t, err
	}
	if t.Refresh != "" && c.now().Add(expirySlack).After(t.ExpiresAt) {
		return c.renew(ctx, t)
	}
	return t, nil
}

// renew exchanges the refresh token, unless somebody else has done so since the tokens were read.
func (c *Client) renew(ctx context.Context, used Tokens) (Tokens, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	defer cancel()
	var renewed Tokens
	err := c.cfg.Tokens.Update(ctx, func(current Tokens) (Tokens, error) {
		if current.Access != used.Access || current.Refresh == "" {
			renewed = current
			return current, nil
		}
		var err error
		renewed, err = c.askTokens(ctx, "/auth/refresh", map[string]string{"refresh_token": current.Refresh})
		renewed.Username = current.Username
		return renewed, err
	})
	return renewed, err
}

func (c *Client) askTokens(ctx context.Context, path string, body map[string]string) (Tokens, error) {
	var answer struct {
		Access      string   `json:"access_token"`
		Refresh     string   `json:"refresh_token"`
		ExpiresIn   int      `json:"expires_in"`
		MFARequired bool     `json:"mfa_required"`
		MFAToken    string   `json:"mfa_token"`
		Methods     []string `json:"methods"`
	}
	if err := c.json(ctx, call{method: http.MethodPost, path: path, body: body, anonymous: true}, &answer); err != nil {
		return Tokens{}, err
	}
	if answer.MFARequired {
		return Tokens{}, &MFARequired{Token: answer.MFAToken, Methods: answer.Methods}
	}
	if answer.Access == "" {
		return Tokens{}, protocolError("the server's answer to %s holds no token", path)
	}
	return Tokens{Access: answer.Access, Refresh: answer.Refresh, ExpiresAt: c.now().Add(time.Duration(answer.ExpiresIn) * time.Second)}, nil
}

// Login opens a session and keeps its tokens. It fails with *MFARequired where the account has a second factor.
func (c *Client) Login(ctx context.Context, username, password string) error {
	t, err := c.askTokens(ctx, "/auth/login", map[string]string{"username": username, "password": password})
	if err != nil {
		return err
	}
	t.Username = username
	return c.cfg.Tokens.Update(ctx, func(Tokens) (Tokens, error) { return t, nil })
}

// Logout ends the session and forgets its tokens. A session that the server has ended already, or does not know, is forgotten as well. An API
// key is forgotten here and goes on to work.
func (c *Client) Logout(ctx context.Context) error {
	if t, err := c.cfg.Tokens.Load(ctx); err != nil {
		return err
	} else if t.APIKey != "" {
		return c.cfg.Tokens.Update(ctx, func(Tokens) (Tokens, error) { return Tokens{}, nil })
	}
	err := c.json(ctx, call{method: http.MethodPost, path: "/auth/logout"}, nil)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		err = nil
	}
	if err != nil {
		return err
	}
	return c.cfg.Tokens.Update(ctx, func(Tokens) (Tokens, error) { return Tokens{}, nil })
}
