package authgrpc

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc/authpb"
	"github.com/novacron/novacron/internal/platform/identity"
)

// decoder reads parts of messages and keeps the first mistake.
type decoder struct{ err error }

func (d *decoder) id(b []byte) uuid.UUID {
	if len(b) == 0 {
		return uuid.Nil
	}
	u, err := uuid.FromBytes(b)
	if err != nil && d.err == nil {
		d.err = errForm.Wrap(fmt.Errorf("id of %d bytes", len(b)))
	}
	return u
}

func (d *decoder) principal(p *authpb.Principal) identity.Principal {
	return identity.Principal{
		UserID: d.id(p.GetUserId()), Username: p.GetUsername(), TenantID: d.id(p.GetTenantId()), HomeID: d.id(p.GetHomeTenantId()), Role: p.GetRole(),
		Permissions: p.GetPermissions(), Platform: p.GetPlatformPermissions(), Scope: identity.Scope(p.GetScope()),
		SessionID: d.id(p.GetSessionId()), APIKeyID: d.id(p.GetApiKeyId()), Pending: p.GetPending(),
	}
}

func (d *decoder) apiKey(k *authpb.APIKey) auth.APIKey {
	out := auth.APIKey{
		ID: d.id(k.GetId()), Name: k.GetName(), Prefix: k.GetPrefix(), UserID: d.id(k.GetUserId()), Username: k.GetUsername(), TenantID: d.id(k.GetTenantId()),
		Scope: identity.Scope(k.GetScope()), ExpiresAt: when(k.GetExpiresAt()), LastUsedAt: when(k.GetLastUsedAt()), LastUsedIP: k.GetLastUsedIp(),
		RotatedAt: when(k.GetRotatedAt()), OldSecretsUntil: when(k.GetOldSecretsUntil()), Version: k.GetVersion(),
		CreatedAt: k.GetCreatedAt().AsTime(), UpdatedAt: k.GetUpdatedAt().AsTime(),
	}
	if k.GetPermissions() != nil {
		out.Permissions = some(k.GetPermissions().GetValues())
	}
	if by := d.id(k.GetCreatedBy()); by != uuid.Nil {
		out.CreatedBy = &by
	}
	return out
}

func principal(p identity.Principal) *authpb.Principal {
	return &authpb.Principal{
		UserId: id(p.UserID), Username: p.Username, TenantId: id(p.TenantID), HomeTenantId: id(p.HomeID), Role: p.Role, Permissions: p.Permissions,
		PlatformPermissions: p.Platform, Scope: string(p.Scope), SessionId: id(p.SessionID), ApiKeyId: id(p.APIKeyID), Pending: p.Pending,
	}
}

func apiKey(k auth.APIKey) *authpb.APIKey {
	out := &authpb.APIKey{
		Id: id(k.ID), Name: k.Name, Prefix: k.Prefix, UserId: id(k.UserID), Username: k.Username, TenantId: id(k.TenantID), Permissions: texts(k.Permissions),
		Scope: string(k.Scope), ExpiresAt: moment(k.ExpiresAt), LastUsedAt: moment(k.LastUsedAt), LastUsedIp: k.LastUsedIP, RotatedAt: moment(k.RotatedAt),
		OldSecretsUntil: moment(k.OldSecretsUntil), Version: k.Version, CreatedAt: moment(&k.CreatedAt), UpdatedAt: moment(&k.UpdatedAt),
	}
	if k.CreatedBy != nil {
		out.CreatedBy = id(*k.CreatedBy)
	}
	return out
}

func id(u uuid.UUID) []byte {
	if u == uuid.Nil {
		return nil
	}
	return u[:]
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// valid keeps a text that is no UTF-8 from failing in the transport: the other side refuses it by its own rules, for it is changed here.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// texts keeps the absent list and the empty one apart.
func texts(list []string) *authpb.Strings {
	if list == nil {
		return nil
	}
	return &authpb.Strings{Values: list}
}

func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func moment(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

func when(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}
