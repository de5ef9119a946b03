package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

const (
	// askTimeout bounds how long a module may take to count; silence is a "perhaps".
	askTimeout = 5 * time.Second
	// closeTimeout bounds how long a module waits for requests that are being answered, before it counts.
	closeTimeout = 15 * time.Second
)

// DeleteTenant removes an empty tenant with its roles and bindings. Whether it is empty is asked of every module that keeps things of tenants, twice:
// first so that a tenant that is not empty notices nothing, and again once the tenant has been disabled and nothing can be made in it any more.
// No answer counts as objects. A deletion that dies on the way leaves the tenant disabled; it can be repeated, or the tenant enabled again.
func (s *Service) DeleteTenant(ctx context.Context, p identity.Principal, id uuid.UUID, version *int64) error {
	if id == p.TenantID || id == p.HomeID {
		if _, err := s.Store.Tenant(ctx, id, reachOf(p, tenantWrite)); err != nil {
			return err
		}
		return auth.ErrOwnTenant
	}
	var was auth.Tenant
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		var err error
		was, err = lockTenant(ctx, tx, p, id, version)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.askAll(ctx, id, event.TenantAsk, askTimeout); err != nil {
		return err
	}
	// From here on a caller who leaves must not leave a tenant behind that is half deleted.
	ctx = context.WithoutCancel(ctx)
	if err := s.setDisabled(ctx, id, true); err != nil {
		return err
	}
	if err := s.removeClosed(ctx, id); err != nil {
		if !was.Disabled {
			if e := s.setDisabled(ctx, id, false); e != nil && !errors.Is(e, auth.ErrTenantNotFound) {
				s.Log.WarnContext(ctx, "a tenant that was not deleted stays disabled", "error", e, "tenant_id", id)
				return err
			}
		}
		s.reopen(ctx, id)
		return err
	}
	return nil
}

// removeClosed has all modules close the tenant, which is disabled, and removes it if it is empty then.
func (s *Service) removeClosed(ctx context.Context, id uuid.UUID) error {
	if err := s.askAll(ctx, id, event.TenantClose, closeTimeout); err != nil {
		return err
	}
	if err := s.askAll(ctx, id, event.TenantForget, askTimeout); err != nil {
		return err
	}
	telling := func() []event.Auth { return one(event.Auth{Type: event.AuthTenantDeleted, TenantID: id}) }
	return s.changing(ctx, telling, func(tx store.Queries) error {
		t, err := tx.LockTenant(ctx, id, nil)
		if err != nil {
			return err
		}
		if !t.Disabled { // somebody has enabled it meanwhile
			return auth.ErrVersion
		}
		return tx.DeleteTenant(ctx, id)
	})
}

func (s *Service) setDisabled(ctx context.Context, id uuid.UUID, disabled bool) error {
	telling := func() []event.Auth { return one(event.Auth{Type: event.AuthTenantUpdated, TenantID: id}) }
	return s.changing(ctx, telling, func(tx store.Queries) error {
		t, err := tx.LockTenant(ctx, id, nil)
		if err != nil || t.Disabled == disabled {
			return err
		}
		t.Disabled = disabled
		_, err = tx.UpdateTenant(ctx, t, s.now())
		return err
	})
}

// askAll asks this module and all others whether a tenant is empty. It fails with ErrTenantNotEmpty, which says what there is, or with
// ErrTenantUnknown where one does not answer.
func (s *Service) askAll(ctx context.Context, id uuid.UUID, phase string, timeout time.Duration) error {
	found := map[string]int64{}
	own, err := s.Store.TenantObjects(ctx, id)
	if err != nil {
		return err
	}
	maps.Copy(found, own)
	for _, module := range s.TenantHolders {
		counts, err := s.ask(ctx, module, id, phase, timeout)
		if err != nil {
			s.Log.WarnContext(ctx, "a module does not tell what it has of a tenant", "error", err, "module_asked", module, "tenant_id", id, "phase", phase)
			return auth.ErrTenantUnknown.WithMessage("the module %s does not tell whether it has objects of the tenant", module).
				WithMeta("module", module).Wrap(err)
		}
		for kind, n := range counts {
			found[kind] += n
		}
	}
	var parts []string
	e := auth.ErrTenantNotEmpty
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		if found[kind] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", found[kind], kind))
			e = e.WithMeta(kind, fmt.Sprint(found[kind]))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return e.WithMessage("the tenant still has objects: %s", strings.Join(parts, ", "))
}

func (s *Service) ask(ctx context.Context, module string, id uuid.UUID, phase string, timeout time.Duration) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := bus.Call[event.TenantQuestion, event.TenantAnswer](ctx, s.Bus, bus.SubjectTenantObjects(module),
		event.TenantQuestion{TenantID: id, Phase: phase})
	return answer.Objects, err
}

// reopen lets the modules make objects of a tenant again that was closed for its deletion. Who does not hear of it refuses them until it starts
// anew, or the tenant is enabled once more.
func (s *Service) reopen(ctx context.Context, id uuid.UUID) {
	ctx = context.WithoutCancel(ctx)
	for _, module := range s.TenantHolders {
		if _, err := s.ask(ctx, module, id, event.TenantOpen, askTimeout); err != nil && !errors.Is(err, bus.ErrNoResponders) {
			s.Log.WarnContext(ctx, "a module may still refuse new objects of a tenant; enable the tenant once more", "error", err,
				"module_asked", module, "tenant_id", id)
		}
	}
}
