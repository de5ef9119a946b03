package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// platformOnly refuses callers who do not hold a permission on the platform: flavors belong to no tenant.
func platformOnly(ctx context.Context, permission string) error {
	if !caller(ctx).AllowsPlatform(permission) {
		return httpx.MissingPlatform(permission)
	}
	return nil
}

func flavorInvalid(field, why, value string) error {
	return vm.ErrFlavorInvalid.WithField(field, why, value)
}

// CreateFlavor makes a flavor.
func (s *Service) CreateFlavor(ctx context.Context, name, description string, r vm.Resources) (vm.Flavor, error) {
	if err := platformOnly(ctx, "flavor:create"); err != nil {
		return vm.Flavor{}, err
	}
	if err := checkName(name, flavorInvalid); err != nil {
		return vm.Flavor{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return vm.Flavor{}, fmt.Errorf("make id: %w", err)
	}
	return s.store.CreateFlavor(ctx, vm.Flavor{ID: id, Name: name, Description: description, Resources: r})
}

// GetFlavor reads a flavor.
func (s *Service) GetFlavor(ctx context.Context, id uuid.UUID) (vm.Flavor, error) {
	return s.store.GetFlavor(ctx, id)
}

// ListFlavors lists flavors, oldest first.
func (s *Service) ListFlavors(ctx context.Context, name string, after *httpx.Cursor, limit int) ([]vm.Flavor, error) {
	at, id := time.Time{}, uuid.Nil
	if after != nil {
		at, id = after.CreatedAt, after.ID
	}
	return s.store.ListFlavors(ctx, name, at, id, limit)
}

// UpdateFlavor changes a flavor. Virtual machines that were made with it keep their size.
func (s *Service) UpdateFlavor(ctx context.Context, id uuid.UUID, c store.FlavorChange) (vm.Flavor, error) {
	if err := platformOnly(ctx, "flavor:update"); err != nil {
		return vm.Flavor{}, err
	}
	if c.Name != nil {
		if err := checkName(*c.Name, flavorInvalid); err != nil {
			return vm.Flavor{}, err
		}
	}
	return s.store.UpdateFlavor(ctx, id, c)
}

// DeleteFlavor removes a flavor; seen is the version that the caller has seen, nil any. Virtual machines that were made with it keep their size and its name.
func (s *Service) DeleteFlavor(ctx context.Context, id uuid.UUID, seen *int64) error {
	if err := platformOnly(ctx, "flavor:delete"); err != nil {
		return err
	}
	return s.store.DeleteFlavor(ctx, id, seen)
}

// flavorNamed finds the flavor that a request names.
func (s *Service) flavorNamed(ctx context.Context, name, field string, invalid *errs.Error) (vm.Flavor, error) {
	f, err := s.store.FlavorNamed(ctx, name)
	if errors.Is(err, vm.ErrFlavorNotFound) {
		return f, invalid.WithField(field, "is not a flavor there is; GET /api/v1/flavors lists them", name)
	}
	return f, err
}
