package edge

import (
	"context"
	"net/http"
	"strings"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Authenticator is the part of the auth module that the gateway needs.
type Authenticator interface {
	ValidateToken(ctx context.Context, req auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error)
	ValidateAPIKey(ctx context.Context, req auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error)
}

// authenticate tells who sent a request; false means that it carries no credentials. The module decides whether it wants some.
func (e *Edge) authenticate(r *http.Request) (identity.Principal, bool, error) {
	bearer, keys := r.Header["Authorization"], r.Header["X-Api-Key"]
	switch {
	case len(bearer) == 0 && len(keys) == 0:
		return identity.Principal{}, false, nil
	case len(bearer)+len(keys) > 1:
		return identity.Principal{}, false, gateway.ErrAmbiguousCredentials
	case len(keys) == 1:
		return e.authenticateKey(r, keys[0])
	}
	token, ok := httpx.BearerToken(r)
	switch {
	case !ok || token == "":
		return identity.Principal{}, false, gateway.ErrNotBearer
	case strings.HasPrefix(token, auth.APIKeyMark):
		return identity.Principal{}, false, gateway.ErrKeyAsBearer
	}
	answer, err := e.deps.Auth.ValidateToken(r.Context(), auth.ValidateTokenRequest{Token: token})
	if err != nil {
		return identity.Principal{}, false, err
	}
	return answer.Principal, true, nil
}

// authenticateKey tells whose API key a request carries.
func (e *Edge) authenticateKey(r *http.Request, key string) (identity.Principal, bool, error) {
	answer, err := e.deps.Auth.ValidateAPIKey(r.Context(), auth.ValidateAPIKeyRequest{Key: key, Client: httpx.ClientInfo(r.Context()).Addr})
	if err != nil {
		return identity.Principal{}, false, err
	}
	return answer.Principal, true, nil
}
