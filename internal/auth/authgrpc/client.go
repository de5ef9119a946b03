package authgrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc/authpb"
	"github.com/novacron/novacron/internal/platform/grpcx"
)

// Client is an auth.Service in another process. It remembers nothing: what it answers is true at that moment, and where the other process
// cannot be reached it says that it does not know.
type Client struct{ rpc authpb.AuthServiceClient }

var _ auth.Service = (*Client)(nil)

// NewClient makes a Client over a connection.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{rpc: authpb.NewAuthServiceClient(conn)}
}

// unknown turns the failure to reach the other process into the contract's own word for it.
func unknown(err error) error {
	if errors.Is(err, grpcx.ErrUnreachable) || errors.Is(err, grpcx.ErrRefused) {
		return auth.ErrUnavailable.Wrap(err)
	}
	return err
}

// ValidateToken implements auth.Service.
func (c *Client) ValidateToken(ctx context.Context, req auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	if len(req.Token) > auth.MaxTokenBytes {
		return auth.ValidateTokenResponse{}, auth.ErrInvalidToken
	}
	resp, err := c.rpc.ValidateToken(ctx, &authpb.ValidateTokenRequest{Token: grpcx.Text(req.Token), TenantId: grpcx.ID(req.TenantID)})
	if err != nil {
		return auth.ValidateTokenResponse{}, unknown(err)
	}
	var d decoder
	out := auth.ValidateTokenResponse{Principal: d.principal(resp.GetPrincipal()), ExpiresAt: resp.GetExpiresAt().AsTime()}
	return out, d.Err
}

// ValidateAPIKey implements auth.Service.
func (c *Client) ValidateAPIKey(ctx context.Context, req auth.ValidateAPIKeyRequest) (auth.ValidateAPIKeyResponse, error) {
	if len(req.Key) > auth.MaxAPIKeyBytes {
		return auth.ValidateAPIKeyResponse{}, auth.ErrInvalidAPIKey
	}
	resp, err := c.rpc.ValidateAPIKey(ctx, &authpb.ValidateAPIKeyRequest{Key: grpcx.Text(req.Key), TenantId: grpcx.ID(req.TenantID), Client: address(req.Client)})
	if err != nil {
		return auth.ValidateAPIKeyResponse{}, unknown(err)
	}
	var d decoder
	out := auth.ValidateAPIKeyResponse{Principal: d.principal(resp.GetPrincipal()), ExpiresAt: grpcx.When(resp.GetExpiresAt())}
	return out, d.Err
}

// GetUserPermissions implements auth.Service.
func (c *Client) GetUserPermissions(ctx context.Context, req auth.GetUserPermissionsRequest) (auth.GetUserPermissionsResponse, error) {
	resp, err := c.rpc.GetUserPermissions(ctx, &authpb.GetUserPermissionsRequest{UserId: grpcx.ID(req.UserID), TenantId: grpcx.ID(req.TenantID)})
	if err != nil {
		return auth.GetUserPermissionsResponse{}, unknown(err)
	}
	return auth.GetUserPermissionsResponse{Permissions: grpcx.Some(resp.GetPermissions()), Platform: resp.GetPlatformPermissions(), Roles: resp.GetRoles()}, nil
}

// CreateAPIKey implements auth.Service.
func (c *Client) CreateAPIKey(ctx context.Context, req auth.CreateAPIKeyRequest) (auth.CreateAPIKeyResponse, error) {
	resp, err := c.rpc.CreateAPIKey(ctx, &authpb.CreateAPIKeyRequest{Actor: principal(req.Actor), UserId: grpcx.ID(req.UserID), Name: grpcx.Text(req.Name),
		Permissions: texts(req.Permissions), Scope: string(req.Scope), ExpiresAt: grpcx.Moment(req.ExpiresAt)})
	if err != nil {
		return auth.CreateAPIKeyResponse{}, unknown(err)
	}
	var d decoder
	out := auth.CreateAPIKeyResponse{APIKey: d.apiKey(resp.GetApiKey()), Secret: resp.GetSecret()}
	return out, d.Err
}
