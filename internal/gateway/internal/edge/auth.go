package edge

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

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
func (e *Edge) authenticate(ctx context.Context, r *http.Request) (identity.Principal, bool, error) {
	bearer, keys := r.Header["Authorization"], r.Header["X-Api-Key"]
	switch {
	case len(bearer) == 0 && len(keys) == 0:
		return identity.Principal{}, false, nil
	case len(bearer)+len(keys) > 1:
		return identity.Principal{}, false, gateway.ErrAmbiguousCredentials
	case len(keys) == 1:
		return e.authenticateKey(ctx, r, keys[0])
	}
	token, ok := httpx.BearerToken(r)
	switch {
	case !ok || token == "":
		return identity.Principal{}, false, gateway.ErrNotBearer
	case strings.HasPrefix(token, auth.APIKeyMark):
		return identity.Principal{}, false, gateway.ErrKeyAsBearer
	}
	tenant, malformed := actingTenant(r)
	answer, err := e.deps.Auth.ValidateToken(ctx, auth.ValidateTokenRequest{Token: token, TenantID: tenant})
	if err == nil {
		err = malformed // which comes after what is wrong with the token
	}
	if err != nil {
		return identity.Principal{}, false, err
	}
	return answer.Principal, true, nil
}

// authenticateKey tells whose API key a request carries.
func (e *Edge) authenticateKey(ctx context.Context, r *http.Request, key string) (identity.Principal, bool, error) {
	tenant, malformed := actingTenant(r)
	answer, err := e.deps.Auth.ValidateAPIKey(ctx, auth.ValidateAPIKeyRequest{Key: key, TenantID: tenant, Client: httpx.ClientInfo(ctx).Addr})
	if err == nil {
		err = malformed
	}
	if err != nil {
		return identity.Principal{}, false, err
	}
	return answer.Principal, true, nil
}

// actingTenant gives the tenant that the caller wants to act in; nil is their own.
func actingTenant(r *http.Request) (uuid.UUID, error) {
	values := r.Header[httpx.HeaderTenant]
	if len(values) == 0 {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(values[0])
	if err != nil || len(values) > 1 || len(values[0]) != len(id.String()) || id == uuid.Nil {
		return uuid.Nil, gateway.ErrTenantHeader
	}
	return id, nil
}
