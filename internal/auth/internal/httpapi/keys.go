package httpapi

import (
	"context"
	"net/http"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/token"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

const (
	signingKeyRead   = "signing-key:read"
	signingKeyRotate = "signing-key:rotate"
)

// SigningKeys is the answer that lists the keys.
type SigningKeys struct {
	Body httpx.Page[token.KeyInfo]
}

func (a *api) registerKeys(h *httpx.API) {
	httpx.Handle(h, httpx.Op{ID: "signing-key-list", Method: http.MethodGet, Path: "/api/v1/signing-keys", Permission: signingKeyRead, Tag: "auth",
		Summary: "List the keys that sign access tokens, newest first", Errors: []*errs.Error{auth.ErrPlatformOnly},
		Description: "Private halves are never shown. The public ones are at /.well-known/jwks.json."},
		func(ctx context.Context, _ *struct{}) (*SigningKeys, error) {
			p, err := caller(ctx)
			if err != nil {
				return nil, err
			}
			keys, err := a.s.SigningKeys(p)
			return &SigningKeys{Body: httpx.Page[token.KeyInfo]{Items: keys}}, err
		})
	httpx.Handle(h, httpx.Op{ID: "signing-key-rotate", Method: http.MethodPost, Path: "/api/v1/signing-keys/rotate", Permission: signingKeyRotate, Tag: "auth",
		Summary: "Make the next key that signs access tokens", MaxBody: maxBody, Errors: []*errs.Error{auth.ErrPlatformOnly},
		Description: "The next key is published at once and signs after auth.key_publish_delay; tokens of the old one stay good until they expire, so nobody is " +
			"logged out. Asked again before it signs, it makes no other. With at_once, for a key that others may know: the new key signs now, and every access " +
			"token that was issued before is refused; clients get a new one with their refresh token."},
		func(ctx context.Context, in *struct {
			Body struct {
				AtOnce bool `json:"at_once,omitempty" doc:"Withdraw all older keys now."`
			}
		}) (*SigningKeys, error) {
			p, err := caller(ctx)
			if err != nil {
				return nil, err
			}
			keys, err := a.s.RotateKeys(ctx, p, in.Body.AtOnce)
			return &SigningKeys{Body: httpx.Page[token.KeyInfo]{Items: keys}}, err
		})
}
