package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
)

// TenantObjects counts what the module has of a tenant, by kind. Its quota is a setting and no object.
func (s *Store) TenantObjects(ctx context.Context, tenantID uuid.UUID) (map[string]int64, error) {
	db, err := s.db()
	if err != nil {
		return nil, err
	}
	return pg.TenantRows(ctx, db, tenantID, map[string]string{"quotas": "false", "quota_usage": "false"})
}

// ForgetTenant drops the quota of a tenant that has nothing any more.
func (s *Store) ForgetTenant(ctx context.Context, tenantID uuid.UUID) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := s.q.UsageForget(ctx, tx, tenantID); err != nil {
			return err
		}
		return s.q.QuotaForget(ctx, tx, tenantID)
	})
	if err != nil {
		return fmt.Errorf("forget the quota of a tenant: %w", pg.Map(err))
	}
	return nil
}
