package authgrpc

import (
	"context"
	"net/netip"

	"google.golang.org/grpc"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc/authpb"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// server serves an auth.Service. The processes that may call are told apart by their certificates; see package grpcx.
type server struct {
	authpb.UnimplementedAuthServiceServer
	s auth.Service
}

// Register adds the contract to a server.
func Register(r grpc.ServiceRegistrar, s auth.Service) {
	authpb.RegisterAuthServiceServer(r, server{s: s})
}

// ValidateToken implements authpb.AuthServiceServer.
func (v server) ValidateToken(ctx context.Context, req *authpb.ValidateTokenRequest) (*authpb.ValidateTokenResponse, error) {
	var d decoder
	in := auth.ValidateTokenRequest{Token: req.GetToken(), TenantID: d.ID(req.GetTenantId())}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.ValidateToken(ctx, in)
	if err != nil {
		return nil, err
	}
	return &authpb.ValidateTokenResponse{Principal: principal(out.Principal), ExpiresAt: grpcx.Moment(&out.ExpiresAt)}, nil
}

// ValidateAPIKey implements authpb.AuthServiceServer.
func (v server) ValidateAPIKey(ctx context.Context, req *authpb.ValidateAPIKeyRequest) (*authpb.ValidateAPIKeyResponse, error) {
	var d decoder
	in := auth.ValidateAPIKeyRequest{Key: req.GetKey(), TenantID: d.ID(req.GetTenantId())}
	if text := req.GetClient(); text != "" {
		var err error
		if in.Client, err = netip.ParseAddr(text); err != nil {
			return nil, grpcx.ErrMessage.Wrap(err)
		}
	}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.ValidateAPIKey(ctx, in)
	if err != nil {
		return nil, err
	}
	return &authpb.ValidateAPIKeyResponse{Principal: principal(out.Principal), ExpiresAt: grpcx.Moment(out.ExpiresAt)}, nil
}

// GetUserPermissions implements authpb.AuthServiceServer.
func (v server) GetUserPermissions(ctx context.Context, req *authpb.GetUserPermissionsRequest) (*authpb.GetUserPermissionsResponse, error) {
	var d decoder
	in := auth.GetUserPermissionsRequest{UserID: d.ID(req.GetUserId()), TenantID: d.ID(req.GetTenantId())}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.GetUserPermissions(ctx, in)
	if err != nil {
		return nil, err
	}
	return &authpb.GetUserPermissionsResponse{Permissions: out.Permissions, PlatformPermissions: out.Platform, Roles: out.Roles}, nil
}

// CreateAPIKey implements authpb.AuthServiceServer.
func (v server) CreateAPIKey(ctx context.Context, req *authpb.CreateAPIKeyRequest) (*authpb.CreateAPIKeyResponse, error) {
	var d decoder
	in := auth.CreateAPIKeyRequest{Actor: d.principal(req.GetActor()), UserID: d.ID(req.GetUserId()), Name: req.GetName(),
		Scope: identity.Scope(req.GetScope()), ExpiresAt: grpcx.When(req.GetExpiresAt())}
	if p := req.GetPermissions(); p != nil {
		in.Permissions = grpcx.Some(p.GetValues())
	}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.CreateAPIKey(ctx, in)
	if err != nil {
		return nil, err
	}
	return &authpb.CreateAPIKeyResponse{ApiKey: apiKey(out.APIKey), Secret: out.Secret}, nil
}
