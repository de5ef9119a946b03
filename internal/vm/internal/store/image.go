package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// KindImageImport is the operation that turns an upload into an image.
const KindImageImport = "image.import"

// ImageRecord is an image with what only the module itself may see.
type ImageRecord struct {
	vm.Image
	StoredSHA256 string // of the stored qcow2 file
}

// CreateImage writes an image that is being imported, and the operation that imports it.
func (s *Store) CreateImage(ctx context.Context, img vm.Image, op operation.New) (vm.Image, error) {
	var created vm.Image
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageInsert(ctx, tx, vmdb.ImageInsertParams{ID: img.ID, TenantID: img.TenantID, OwnerID: img.OwnerID, Name: img.Name,
			Format: img.Format, UploadSha256: img.SHA256, VirtualSizeBytes: img.VirtualSizeBytes, OperationID: &op.ID})
		if err != nil {
			return err
		}
		created = imageOf(row)
		_, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return created, err
}

// GetImage reads one image, whichever tenant it belongs to.
func (s *Store) GetImage(ctx context.Context, id uuid.UUID) (ImageRecord, error) {
	row, err := s.q.ImageGet(ctx, s.pool, id)
	if err != nil {
		return ImageRecord{}, fmt.Errorf("read image: %w", mapNoRows(err, vm.ErrImageNotFound))
	}
	return ImageRecord{Image: imageOf(row), StoredSHA256: row.Sha256}, nil
}

// ListImages lists the tenant's images, newest first. An empty name stands for any, and so does nil for an owner.
func (s *Store) ListImages(ctx context.Context, tenant uuid.UUID, owner *uuid.UUID, name string, before time.Time, beforeID uuid.UUID, limit int) ([]vm.Image, error) {
	rows, err := s.q.ImageList(ctx, s.pool, vmdb.ImageListParams{TenantID: tenant, Owner: owner, Name: name, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", pg.Map(err))
	}
	images := make([]vm.Image, len(rows))
	for i, row := range rows {
		images[i] = imageOf(row)
	}
	return images, nil
}

// ImageImported notes that the image's file is in its place.
func (s *Store) ImageImported(ctx context.Context, id uuid.UUID, sha256 string, size int64) error {
	_, err := s.q.ImageReady(ctx, s.pool, vmdb.ImageReadyParams{ID: id, Sha256: sha256, SizeBytes: size})
	return pg.Map(err)
}

// EndImage is what the end of an import does to the image's row.
func (s *Store) EndImage(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	if op.Status == operation.StatusSucceeded {
		return nil
	}
	return s.q.ImageFailed(ctx, tx, vmdb.ImageFailedParams{ID: op.TargetID, Error: errs.Encode(op.Error)})
}

// DeleteImage removes an image's row. It is refused while virtual machines were made from it.
func (s *Store) DeleteImage(ctx context.Context, id uuid.UUID) error {
	_, err := s.q.ImageDelete(ctx, s.pool, id)
	if constraint, _ := pg.Violation(err); constraint == "vms_image_id_fkey" || constraint == "volumes_image_id_fkey" {
		return vm.ErrImageInUse
	}
	return pg.Map(err)
}

// ImageIDs lists every image there is, for the sweep of files that no row knows.
func (s *Store) ImageIDs(ctx context.Context) (map[uuid.UUID]bool, error) {
	ids, err := s.q.ImageIDs(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("list image ids: %w", pg.Map(err))
	}
	known := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		known[id] = true
	}
	return known, nil
}
