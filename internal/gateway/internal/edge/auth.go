package edge

import (
	"context"
	"net/http"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Authenticator is the part of the auth module that the gateway needs.
type Authenticator interface {
	ValidateToken(ctx context.Context, req auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error)
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
		return identity.Principal{}, false, gateway.ErrAPIKeysOff
	}
	token, ok := httpx.BearerToken(r)
	if !ok || token == "" {
		return identity.Principal{}, false, gateway.ErrNotBearer
	}
	answer, err := e.deps.Auth.ValidateToken(r.Context(), auth.ValidateTokenRequest{Token: token})
	if err != nil {
		return identity.Principal{}, false, err
	}
	return answer.Principal, true, nil
}
