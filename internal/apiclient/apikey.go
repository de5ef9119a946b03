package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
)

// NewAPIKey is an API key with its secret, which the server tells once.
type NewAPIKey struct {
	auth.APIKey
	Key string `json:"key"`
}

// APIKeyCreate is the body that creates an API key. What is left zero gets the server's default.
type APIKeyCreate struct {
	Name        string     `json:"name"`
	UserID      uuid.UUID  `json:"user_id,omitzero"`
	Permissions []string   `json:"permissions,omitempty"`
	Scope       string     `json:"scope,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
}

// APIKeyRotate is the body that gives an API key a new secret.
type APIKeyRotate struct {
	OverlapSeconds *int64     `json:"overlap_seconds,omitempty"`
	ExpiresAt      *time.Time `json:"expires_at,omitempty"`
}

// APIKeyFilter says which keys to list; the zero value means all that the caller may see.
type APIKeyFilter struct {
	UserID uuid.UUID
	Prefix string
	Most   int
}

// ListAPIKeys gives API keys, newest first.
func (c *Client) ListAPIKeys(ctx context.Context, f APIKeyFilter) iter.Seq2[Object[auth.APIKey], error] {
	q := url.Values{"prefix": {f.Prefix}}
	if f.UserID != uuid.Nil {
		q.Set("user_id", f.UserID.String())
	}
	return list[auth.APIKey](ctx, c, "/api/v1/api-keys", q, f.Most)
}

// GetAPIKey reads an API key, without its secret.
func (c *Client) GetAPIKey(ctx context.Context, id uuid.UUID) (Object[auth.APIKey], error) {
	return get[auth.APIKey](ctx, c, "/api/v1/api-keys/"+id.String())
}

// CreateAPIKey makes an API key. It is sent once only: answers that hold secrets are not kept for repetition.
func (c *Client) CreateAPIKey(ctx context.Context, body APIKeyCreate) (Object[NewAPIKey], error) {
	var o Object[NewAPIKey]
	err := c.json(ctx, call{method: http.MethodPost, path: "/api/v1/api-keys", body: body}, &o)
	return o, err
}

// RotateAPIKey gives an API key a new secret. It is sent once only, as CreateAPIKey.
func (c *Client) RotateAPIKey(ctx context.Context, id uuid.UUID, body APIKeyRotate) (Object[NewAPIKey], error) {
	var o Object[NewAPIKey]
	err := c.json(ctx, call{method: http.MethodPost, path: "/api/v1/api-keys/" + id.String() + "/rotate", body: body}, &o)
	return o, err
}

// RevokeAPIKey ends an API key.
func (c *Client) RevokeAPIKey(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/api-keys/" + id.String()}, nil)
}

// ServiceAccountCreate is the body that creates a service account. What is left zero gets the server's default.
type ServiceAccountCreate struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Role        string `json:"role,omitempty"`
}

// ServiceAccountUpdate is the body that changes a service account; nil leaves a part as it is.
type ServiceAccountUpdate struct {
	Description *string `json:"description,omitempty"`
	Role        *string `json:"role,omitempty"`
	Disabled    *bool   `json:"disabled,omitempty"`
}

const serviceAccounts = "/api/v1/service-accounts"

// ListServiceAccounts gives service accounts, newest first; most may be 0.
func (c *Client) ListServiceAccounts(ctx context.Context, most int) iter.Seq2[Object[auth.User], error] {
	return list[auth.User](ctx, c, serviceAccounts, nil, most)
}

// GetServiceAccount reads a service account.
func (c *Client) GetServiceAccount(ctx context.Context, id uuid.UUID) (Object[auth.User], error) {
	return get[auth.User](ctx, c, serviceAccounts+"/"+id.String())
}

// CreateServiceAccount makes a service account. It is sent once only; a repetition would find the name taken.
func (c *Client) CreateServiceAccount(ctx context.Context, body ServiceAccountCreate) (Object[auth.User], error) {
	var o Object[auth.User]
	err := c.json(ctx, call{method: http.MethodPost, path: serviceAccounts, body: body}, &o)
	return o, err
}

// UpdateServiceAccount changes a service account.
func (c *Client) UpdateServiceAccount(ctx context.Context, id uuid.UUID, body ServiceAccountUpdate) (Object[auth.User], error) {
	var o Object[auth.User]
	err := c.json(ctx, call{method: http.MethodPatch, path: serviceAccounts + "/" + id.String(), body: body}, &o)
	return o, err
}

// DeleteServiceAccount removes a service account with its API keys.
func (c *Client) DeleteServiceAccount(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: serviceAccounts + "/" + id.String()}, nil)
}

// LoginWithKey keeps an API key as a login would keep tokens, once the server has taken it.
func (c *Client) LoginWithKey(ctx context.Context, key string) (Object[Me], error) {
	var me Object[Me]
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	if err := c.once(bounded, call{method: http.MethodGet, path: "/api/v1/me"}, Tokens{APIKey: key}, &me); err != nil {
		return me, err
	}
	return me, c.cfg.Tokens.Update(ctx, func(Tokens) (Tokens, error) { return Tokens{APIKey: key, Username: me.Value.Username}, nil })
}
