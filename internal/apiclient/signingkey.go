package apiclient

import (
	"context"
	"iter"
	"time"
)

// SigningKey is a key that signs access tokens.
type SigningKey struct {
	ID        string     `json:"id"`
	State     string     `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
	SignsAt   time.Time  `json:"signs_at"`
	GoneAt    *time.Time `json:"gone_at"`
}

// ListSigningKeys gives the keys, newest first.
func (c *Client) ListSigningKeys(ctx context.Context) iter.Seq2[Object[SigningKey], error] {
	return listWhole[SigningKey](ctx, c, "/api/v1/signing-keys")
}

// RotateSigningKeys makes the next key. With atOnce it signs now, and no token that was issued before is good any more.
func (c *Client) RotateSigningKeys(ctx context.Context, atOnce bool) ([]Object[SigningKey], error) {
	page, err := post[struct {
		Items []Object[SigningKey] `json:"items"`
	}](ctx, c, "/api/v1/signing-keys/rotate", map[string]bool{"at_once": atOnce})
	return page.Value.Items, err
}
