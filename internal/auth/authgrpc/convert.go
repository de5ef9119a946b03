package authgrpc

import (
	"net/netip"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc/authpb"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// decoder reads parts of the contract.
type decoder struct{ grpcx.Decoder }

func (d *decoder) principal(p *authpb.Principal) identity.Principal {
	return identity.Principal{
		UserID: d.ID(p.GetUserId()), Username: p.GetUsername(), TenantID: d.ID(p.GetTenantId()), HomeID: d.ID(p.GetHomeTenantId()), Role: p.GetRole(),
		Permissions: p.GetPermissions(), Platform: p.GetPlatformPermissions(), Scope: identity.Scope(p.GetScope()),
		SessionID: d.ID(p.GetSessionId()), APIKeyID: d.ID(p.GetApiKeyId()), Pending: p.GetPending(),
	}
}

func (d *decoder) apiKey(k *authpb.APIKey) auth.APIKey {
	out := auth.APIKey{
		ID: d.ID(k.GetId()), Name: k.GetName(), Prefix: k.GetPrefix(), UserID: d.ID(k.GetUserId()), Username: k.GetUsername(), TenantID: d.ID(k.GetTenantId()),
		Scope: identity.Scope(k.GetScope()), ExpiresAt: grpcx.When(k.GetExpiresAt()), LastUsedAt: grpcx.When(k.GetLastUsedAt()), LastUsedIP: k.GetLastUsedIp(),
		RotatedAt: grpcx.When(k.GetRotatedAt()), OldSecretsUntil: grpcx.When(k.GetOldSecretsUntil()), Version: k.GetVersion(),
		CreatedAt: k.GetCreatedAt().AsTime(), UpdatedAt: k.GetUpdatedAt().AsTime(),
	}
	if k.GetPermissions() != nil {
		out.Permissions = grpcx.Some(k.GetPermissions().GetValues())
	}
	if by := d.ID(k.GetCreatedBy()); by != uuid.Nil {
		out.CreatedBy = &by
	}
	return out
}

func principal(p identity.Principal) *authpb.Principal {
	return &authpb.Principal{
		UserId: grpcx.ID(p.UserID), Username: p.Username, TenantId: grpcx.ID(p.TenantID), HomeTenantId: grpcx.ID(p.HomeID), Role: p.Role, Permissions: p.Permissions,
		PlatformPermissions: p.Platform, Scope: string(p.Scope), SessionId: grpcx.ID(p.SessionID), ApiKeyId: grpcx.ID(p.APIKeyID), Pending: p.Pending,
	}
}

func apiKey(k auth.APIKey) *authpb.APIKey {
	out := &authpb.APIKey{
		Id: grpcx.ID(k.ID), Name: k.Name, Prefix: k.Prefix, UserId: grpcx.ID(k.UserID), Username: k.Username, TenantId: grpcx.ID(k.TenantID), Permissions: texts(k.Permissions),
		Scope: string(k.Scope), ExpiresAt: grpcx.Moment(k.ExpiresAt), LastUsedAt: grpcx.Moment(k.LastUsedAt), LastUsedIp: k.LastUsedIP, RotatedAt: grpcx.Moment(k.RotatedAt),
		OldSecretsUntil: grpcx.Moment(k.OldSecretsUntil), Version: k.Version, CreatedAt: grpcx.Moment(&k.CreatedAt), UpdatedAt: grpcx.Moment(&k.UpdatedAt),
	}
	if k.CreatedBy != nil {
		out.CreatedBy = grpcx.ID(*k.CreatedBy)
	}
	return out
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// texts keeps the absent list and the empty one apart.
func texts(list []string) *authpb.Strings {
	if list == nil {
		return nil
	}
	return &authpb.Strings{Values: list}
}
