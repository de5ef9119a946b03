package service

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

const (
	mfaPolicyRead  = "mfa-policy:read"
	mfaPolicyWrite = "mfa-policy:write"
)

// policyOf tells which tenant's policy a caller means: that of the tenant they act in, or with a permission on the platform that which
// counts everywhere, nil.
func policyOf(p identity.Principal, scope identity.Scope, permission string) (*uuid.UUID, error) {
	if scope != identity.ScopePlatform {
		return &p.TenantID, nil
	}
	if !p.AllowsPlatform(permission) {
		return nil, platformOnly(permission)
	}
	return nil, nil
}

// MFAPolicy tells who must have a second factor in the tenant that the caller acts in, or everywhere.
func (s *Service) MFAPolicy(ctx context.Context, p identity.Principal, scope identity.Scope) (auth.MFAPolicy, error) {
	tenantID, err := policyOf(p, scope, mfaPolicyRead)
	if err != nil {
		return auth.MFAPolicy{}, err
	}
	return s.Store.MFAPolicy(ctx, tenantID)
}

// SetMFAPolicy replaces it. It counts at once: open sessions of those who lack what is asked can do nothing more but set it up. matches says
// whether the policy that is replaced is the one that the caller has seen; nil: any will do.
func (s *Service) SetMFAPolicy(ctx context.Context, p identity.Principal, scope identity.Scope, next auth.MFAPolicy, matches func(auth.MFAPolicy) bool) (auth.MFAPolicy, error) {
	tenantID, err := policyOf(p, scope, mfaPolicyWrite)
	if err != nil {
		return auth.MFAPolicy{}, err
	}
	next.TenantID = tenantID
	next.Roles = append([]string{}, next.Roles...)
	slices.Sort(next.Roles)
	next.Roles = slices.Compact(next.Roles)
	e := event.Auth{Type: event.AuthMFAPolicy}
	if tenantID != nil {
		e.TenantID = *tenantID
	}
	err = s.changing(ctx, func() []event.Auth { return one(e) }, func(tx store.Queries) error {
		now, err := tx.MFAPolicy(ctx, tenantID)
		if err != nil {
			return err
		}
		if matches != nil && !matches(now) {
			return auth.ErrVersion
		}
		if tenantID != nil {
			if err := s.holdTenant(ctx, tx, *tenantID); err != nil {
				return err
			}
		}
		for _, name := range next.Roles {
			role, err := tx.Role(ctx, name, p.TenantID)
			if err == nil && tenantID == nil && !role.BuiltIn {
				err = auth.ErrUnknownRole
			}
			if errors.Is(err, auth.ErrUnknownRole) {
				return auth.ErrUnknownRole.WithField("body.roles", "names a role that there is not", name)
			}
			if err != nil {
				return err
			}
		}
		return tx.SetMFAPolicy(ctx, next, newID, s.now())
	})
	if err != nil {
		return auth.MFAPolicy{}, err
	}
	s.Log.InfoContext(ctx, "who must have a second factor was changed", "tenant_id", e.TenantID, "everybody", next.Required, "roles", next.Roles, "by", p.UserID)
	return next, nil
}
