package service

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
)

// Quota gives a tenant's quota: the caller's own, or any for who reaches every tenant. Somebody else's answers as a missing one does.
func (s *Service) Quota(ctx context.Context, tenant uuid.UUID) (store.TenantQuota, error) {
	p, _ := identity.From(ctx)
	if tenant != p.TenantID && !p.AllowsPlatform(PermissionQuotaRead) {
		return store.TenantQuota{}, scheduler.ErrTenantNotFound
	}
	return s.store.GetQuota(ctx, tenant)
}

// SetQuota sets a tenant's quota. Only who reaches every tenant may: a quota that its own tenant could raise would be none.
func (s *Service) SetQuota(ctx context.Context, tenant uuid.UUID, limits scheduler.Quota, revision *int64) (store.TenantQuota, error) {
	p, _ := identity.From(ctx)
	if !p.AllowsPlatform(PermissionQuotaWrite) {
		if tenant != p.TenantID {
			return store.TenantQuota{}, scheduler.ErrTenantNotFound
		}
		return store.TenantQuota{}, scheduler.ErrPlatformOnly.WithMessage("a tenant cannot set its own quota: the permission %s on the platform is missing", PermissionQuotaWrite).
			WithMeta("permission", PermissionQuotaWrite)
	}
	q, err := s.store.PutQuota(ctx, tenant, limits, revision)
	if err != nil {
		return store.TenantQuota{}, err
	}
	s.log.InfoContext(ctx, "quota set", "tenant_id", tenant, "by", p.UserID, "vcpus", limits.VCPUs, "memory_bytes", limits.MemoryBytes,
		"storage_bytes", limits.StorageBytes, "vms", limits.VMs)
	return q, nil
}
