package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// catalogViolation names what a constraint of the tables of flavors, SSH keys and templates means.
func catalogViolation(err error) error {
	switch constraint, _ := pg.Violation(err); constraint {
	case "flavors_name_key":
		return vm.ErrFlavorTaken
	case "ssh_keys_name_key":
		return vm.ErrSSHKeyTaken
	case "vm_templates_name_key":
		return vm.ErrTemplateTaken
	default:
		return pg.Map(err)
	}
}

// changed names what it means that a change found no row: the version that the caller has seen is no longer, or nothing is there.
func changed(err error, seen *int64, mismatch, notFound error) error {
	switch {
	case !errors.Is(err, pgx.ErrNoRows):
		return catalogViolation(err)
	case seen != nil:
		return mismatch
	default:
		return notFound
	}
}

// gone names what it means that a deletion found no row; seen is the version that the caller has seen, nil any.
func gone(rows int64, err error, seen *int64, mismatch, notFound error) error {
	switch {
	case err != nil || rows > 0:
		return pg.Map(err)
	case seen != nil:
		return mismatch
	default:
		return notFound
	}
}

func flavorOf(row vmdb.Flavor) vm.Flavor {
	return vm.Flavor{ID: row.ID, Name: row.Name, Description: row.Description, Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
		Resources: vm.Resources{VCPUs: int(row.Vcpus), MemoryMiB: row.MemoryMib, DiskGiB: row.DiskGib}}
}

// CreateFlavor writes a flavor.
func (s *Store) CreateFlavor(ctx context.Context, f vm.Flavor) (vm.Flavor, error) {
	row, err := s.q.FlavorInsert(ctx, s.pool, vmdb.FlavorInsertParams{ID: f.ID, Name: f.Name, Description: f.Description, Vcpus: int32(f.Resources.VCPUs),
		MemoryMib: f.Resources.MemoryMiB, DiskGib: f.Resources.DiskGiB})
	if err != nil {
		return vm.Flavor{}, fmt.Errorf("insert flavor: %w", catalogViolation(err))
	}
	return flavorOf(row), nil
}

// GetFlavor reads a flavor.
func (s *Store) GetFlavor(ctx context.Context, id uuid.UUID) (vm.Flavor, error) {
	row, err := s.q.FlavorGet(ctx, s.pool, id)
	if err != nil {
		return vm.Flavor{}, fmt.Errorf("read flavor: %w", mapNoRows(err, vm.ErrFlavorNotFound))
	}
	return flavorOf(row), nil
}

// FlavorNamed reads the flavor of a name.
func (s *Store) FlavorNamed(ctx context.Context, name string) (vm.Flavor, error) {
	row, err := s.q.FlavorGetByName(ctx, s.pool, name)
	if err != nil {
		return vm.Flavor{}, fmt.Errorf("read flavor: %w", mapNoRows(err, vm.ErrFlavorNotFound))
	}
	return flavorOf(row), nil
}

// ListFlavors lists flavors, oldest first. An empty name stands for any.
func (s *Store) ListFlavors(ctx context.Context, name string, after time.Time, afterID uuid.UUID, limit int) ([]vm.Flavor, error) {
	rows, err := s.q.FlavorList(ctx, s.pool, vmdb.FlavorListParams{Name: name, AfterTime: after, AfterID: afterID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list flavors: %w", pg.Map(err))
	}
	list := make([]vm.Flavor, len(rows))
	for i := range rows {
		list[i] = flavorOf(rows[i])
	}
	return list, nil
}

// FlavorChange names what to change of a flavor; nil leaves as it is.
type FlavorChange struct {
	Name, Description *string
	VCPUs             *int
	MemoryMiB         *int64
	DiskGiB           *int64
	Seen              *int64 // version that the caller has seen, nil any
}

// UpdateFlavor changes a flavor.
func (s *Store) UpdateFlavor(ctx context.Context, id uuid.UUID, c FlavorChange) (vm.Flavor, error) {
	n := vmdb.FlavorUpdateParams{ID: id, Name: c.Name, Description: c.Description, MemoryMib: c.MemoryMiB, DiskGib: c.DiskGiB, Seen: c.Seen}
	if c.VCPUs != nil {
		vcpus := int32(*c.VCPUs)
		n.Vcpus = &vcpus
	}
	row, err := s.q.FlavorUpdate(ctx, s.pool, n)
	if err != nil {
		return vm.Flavor{}, fmt.Errorf("update flavor: %w", changed(err, c.Seen, vm.ErrFlavorVersion, vm.ErrFlavorNotFound))
	}
	return flavorOf(row), nil
}

// DeleteFlavor removes a flavor of the version that the caller has seen; nil any.
func (s *Store) DeleteFlavor(ctx context.Context, id uuid.UUID, seen *int64) error {
	n, err := s.q.FlavorDelete(ctx, s.pool, vmdb.FlavorDeleteParams{ID: id, Seen: seen})
	return gone(n, err, seen, vm.ErrFlavorVersion, vm.ErrFlavorNotFound)
}

func sshKeyOf(row vmdb.SshKey) vm.SSHKey {
	return vm.SSHKey{ID: row.ID, Name: row.Name, PublicKey: row.PublicKey, Type: row.Type, Fingerprint: row.Fingerprint, OwnerID: row.OwnerID,
		TenantID: row.TenantID, CreatedAt: row.CreatedAt.UTC()}
}

// CreateSSHKey writes an SSH key.
func (s *Store) CreateSSHKey(ctx context.Context, k vm.SSHKey) (vm.SSHKey, error) {
	row, err := s.q.SSHKeyInsert(ctx, s.pool, vmdb.SSHKeyInsertParams{ID: k.ID, TenantID: k.TenantID, OwnerID: k.OwnerID, Name: k.Name, PublicKey: k.PublicKey,
		Type: k.Type, Fingerprint: k.Fingerprint})
	if err != nil {
		return vm.SSHKey{}, fmt.Errorf("insert SSH key: %w", catalogViolation(err))
	}
	return sshKeyOf(row), nil
}

// GetSSHKey reads an SSH key, whichever tenant it belongs to.
func (s *Store) GetSSHKey(ctx context.Context, id uuid.UUID) (vm.SSHKey, error) {
	row, err := s.q.SSHKeyGet(ctx, s.pool, id)
	if err != nil {
		return vm.SSHKey{}, fmt.Errorf("read SSH key: %w", mapNoRows(err, vm.ErrSSHKeyNotFound))
	}
	return sshKeyOf(row), nil
}

// SSHKeyNamed reads the SSH key of a name in a tenant.
func (s *Store) SSHKeyNamed(ctx context.Context, tenant uuid.UUID, name string) (vm.SSHKey, error) {
	row, err := s.q.SSHKeyGetByName(ctx, s.pool, vmdb.SSHKeyGetByNameParams{TenantID: tenant, Name: name})
	if err != nil {
		return vm.SSHKey{}, fmt.Errorf("read SSH key: %w", mapNoRows(err, vm.ErrSSHKeyNotFound))
	}
	return sshKeyOf(row), nil
}

// SSHKeyFilter narrows a list of SSH keys; what is empty does not.
type SSHKeyFilter struct {
	TenantID          uuid.UUID
	OwnerID           *uuid.UUID
	Name, Fingerprint string
	Before            time.Time // creation time and id of the last of the page before
	BeforeID          uuid.UUID
	Limit             int
}

// ListSSHKeys lists SSH keys, newest first.
func (s *Store) ListSSHKeys(ctx context.Context, f SSHKeyFilter) ([]vm.SSHKey, error) {
	rows, err := s.q.SSHKeyList(ctx, s.pool, vmdb.SSHKeyListParams{TenantID: f.TenantID, OwnerID: f.OwnerID, Name: f.Name, Fingerprint: f.Fingerprint,
		AfterTime: pageStart(f.Before), AfterID: f.BeforeID, MaxRows: int32(f.Limit)})
	if err != nil {
		return nil, fmt.Errorf("list SSH keys: %w", pg.Map(err))
	}
	list := make([]vm.SSHKey, len(rows))
	for i := range rows {
		list[i] = sshKeyOf(rows[i])
	}
	return list, nil
}

// DeleteSSHKey removes an SSH key.
func (s *Store) DeleteSSHKey(ctx context.Context, id uuid.UUID) error {
	n, err := s.q.SSHKeyDelete(ctx, s.pool, id)
	return gone(n, err, nil, nil, vm.ErrSSHKeyNotFound)
}

func templateOf(row vmdb.VmTemplate) (vm.Template, error) {
	t := vm.Template{ID: row.ID, Name: row.Name, Description: row.Description, Visibility: vm.Visibility(row.Visibility), Version: row.Version,
		OwnerID: &row.OwnerID, TenantID: &row.TenantID, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}
	if err := json.Unmarshal(row.Spec, &t.Spec); err != nil {
		return t, fmt.Errorf("decode the spec of template %s: %w", row.ID, err)
	}
	return t, nil
}

// CreateTemplate writes a template.
func (s *Store) CreateTemplate(ctx context.Context, t vm.Template) (vm.Template, error) {
	row, err := s.q.TemplateInsert(ctx, s.pool, vmdb.TemplateInsertParams{ID: t.ID, TenantID: *t.TenantID, OwnerID: *t.OwnerID, Name: t.Name,
		Description: t.Description, Visibility: string(t.Visibility), Spec: mustJSON(t.Spec)})
	if err != nil {
		return vm.Template{}, fmt.Errorf("insert template: %w", catalogViolation(err))
	}
	return templateOf(row)
}

// GetTemplate reads a template, whichever tenant it belongs to.
func (s *Store) GetTemplate(ctx context.Context, id uuid.UUID) (vm.Template, error) {
	row, err := s.q.TemplateGet(ctx, s.pool, id)
	if err != nil {
		return vm.Template{}, fmt.Errorf("read template: %w", mapNoRows(err, vm.ErrTemplateNotFound))
	}
	return templateOf(row)
}

// TemplateFilter narrows a list of templates; what is empty does not.
type TemplateFilter struct {
	TenantID   uuid.UUID // its own templates; public ones are listed whosoever they are
	OwnerID    *uuid.UUID
	Name       string
	Visibility vm.Visibility
	Before     time.Time // creation time and id of the last of the page before
	BeforeID   uuid.UUID
	Limit      int
}

// ListTemplates lists templates, newest first.
func (s *Store) ListTemplates(ctx context.Context, f TemplateFilter) ([]vm.Template, error) {
	rows, err := s.q.TemplateList(ctx, s.pool, vmdb.TemplateListParams{TenantID: f.TenantID, OwnerID: f.OwnerID, Name: f.Name, Visibility: string(f.Visibility),
		AfterTime: pageStart(f.Before), AfterID: f.BeforeID, MaxRows: int32(f.Limit)})
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", pg.Map(err))
	}
	list := make([]vm.Template, len(rows))
	for i := range rows {
		if list[i], err = templateOf(rows[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// TemplateChange names what to change of a template; nil leaves as it is.
type TemplateChange struct {
	Name, Description *string
	Visibility        *vm.Visibility
	Spec              *vm.TemplateSpec
	Seen              *int64 // version that the caller has seen, nil any
}

// UpdateTemplate changes a template.
func (s *Store) UpdateTemplate(ctx context.Context, id uuid.UUID, c TemplateChange) (vm.Template, error) {
	n := vmdb.TemplateUpdateParams{ID: id, Name: c.Name, Description: c.Description, Visibility: (*string)(c.Visibility), Seen: c.Seen}
	if c.Spec != nil {
		n.Spec = mustJSON(*c.Spec)
	}
	row, err := s.q.TemplateUpdate(ctx, s.pool, n)
	if err != nil {
		return vm.Template{}, fmt.Errorf("update template: %w", changed(err, c.Seen, vm.ErrTemplateVersion, vm.ErrTemplateNotFound))
	}
	return templateOf(row)
}

// DeleteTemplate removes a template of the version that the caller has seen; nil any.
func (s *Store) DeleteTemplate(ctx context.Context, id uuid.UUID, seen *int64) error {
	n, err := s.q.TemplateDelete(ctx, s.pool, vmdb.TemplateDeleteParams{ID: id, Seen: seen})
	return gone(n, err, seen, vm.ErrTemplateVersion, vm.ErrTemplateNotFound)
}
