package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// The operations that make images.
const (
	KindImageImport = "image.import" // turns an upload into an image
	KindImageFetch  = "image.fetch"  // gets it from somewhere else first
)

// ImageRecord is an image with what only the module itself may see.
type ImageRecord struct {
	vm.Image
	StoredSHA256 string // of the stored file
	SaidFormat   string // what the sender says that it is
}

func imageOf(row vmdb.Image) ImageRecord {
	return ImageRecord{Image: vm.Image{
		ID: row.ID, Name: row.Name, Status: vm.ImageStatus(row.Status), Kind: vm.ImageKind(row.Kind), Format: row.Format, SizeBytes: row.SizeBytes,
		VirtualSizeBytes: row.VirtualSizeBytes, SHA256: row.UploadSha256, OwnerID: row.OwnerID, TenantID: row.TenantID,
		Visibility: vm.ImageVisibility(row.Visibility), SharedWith: row.SharedWith, SourceURL: row.SourceUrl, DeclaredBytes: row.DeclaredSize, Version: row.Version,
		OperationID: row.OperationID, Error: problemOf(row.Error), CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}, StoredSHA256: row.Sha256, SaidFormat: row.SaidFormat}
}

// CreateImage writes an image, and the operation that imports it; nil where parts of it have yet to come.
func (s *Store) CreateImage(ctx context.Context, img ImageRecord, op *operation.New) (ImageRecord, error) {
	var created ImageRecord
	if img.SharedWith == nil {
		img.SharedWith = []uuid.UUID{}
	}
	params := vmdb.ImageInsertParams{ID: img.ID, TenantID: img.TenantID, OwnerID: img.OwnerID, Name: img.Name, Status: string(img.Status),
		Kind: string(img.Kind), Format: img.Format, UploadSha256: img.SHA256, VirtualSizeBytes: img.VirtualSizeBytes, Visibility: string(img.Visibility),
		SharedWith: img.SharedWith, SourceUrl: img.SourceURL, DeclaredSize: img.DeclaredBytes, SaidFormat: img.SaidFormat}
	if op != nil {
		params.OperationID = &op.ID
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageInsert(ctx, tx, params)
		if err != nil {
			return err
		}
		created = imageOf(row)
		if op != nil {
			_, err = s.ops.Create(ctx, tx, *op)
		}
		return err
	})
	return created, err
}

// BeginImport makes an upload in parts that has arrived whole an image that is being imported. Of those who try, one does.
func (s *Store) BeginImport(ctx context.Context, img ImageRecord, op operation.New) (ImageRecord, error) {
	var begun ImageRecord
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageImporting(ctx, tx, vmdb.ImageImportingParams{ID: img.ID, Kind: string(img.Kind), Format: img.Format, UploadSha256: img.SHA256,
			VirtualSizeBytes: img.VirtualSizeBytes, OperationID: &op.ID})
		if err != nil {
			return mapNoRows(err, vm.ErrImageNotUploading)
		}
		begun = imageOf(row)
		_, err = s.ops.Create(ctx, tx, op)
		return err
	})
	return begun, err
}

// GetImage reads one image, whichever tenant it belongs to.
func (s *Store) GetImage(ctx context.Context, id uuid.UUID) (ImageRecord, error) {
	row, err := s.q.ImageGet(ctx, s.pool, id)
	if err != nil {
		return ImageRecord{}, fmt.Errorf("read image: %w", mapNoRows(err, vm.ErrImageNotFound))
	}
	return imageOf(row), nil
}

// ImageList says which images are wanted. Empty parts stand for any.
type ImageList struct {
	Tenant  uuid.UUID
	Owner   *uuid.UUID // of the tenant's own images
	Foreign bool       // also those of others that the tenant may use
	Name    string
	Kind    string
	// Visibility is that of the image.
	Visibility string
	Before     time.Time
	BeforeID   uuid.UUID
	Limit      int
}

// ListImages lists images, newest first.
func (s *Store) ListImages(ctx context.Context, l ImageList) ([]ImageRecord, error) {
	rows, err := s.q.ImageList(ctx, s.pool, vmdb.ImageListParams{TenantID: l.Tenant, Owner: l.Owner, ForeignToo: l.Foreign, Name: l.Name, Kind: l.Kind,
		Visibility: l.Visibility, AfterTime: pageStart(l.Before), AfterID: l.BeforeID, MaxRows: int32(l.Limit)})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", pg.Map(err))
	}
	images := make([]ImageRecord, len(rows))
	for i, row := range rows {
		images[i] = imageOf(row)
	}
	return images, nil
}

// EditImage changes name and visibility, as change says of what is there.
func (s *Store) EditImage(ctx context.Context, id uuid.UUID, change func(*vm.Image) error) (ImageRecord, error) {
	var edited ImageRecord
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageGetForUpdate(ctx, tx, id)
		if err != nil {
			return mapNoRows(err, vm.ErrImageNotFound)
		}
		before := row
		img := imageOf(row).Image
		if err := change(&img); err != nil {
			return err
		}
		if row, err = s.q.ImageUpdate(ctx, tx, vmdb.ImageUpdateParams{ID: id, Name: img.Name, Visibility: string(img.Visibility), SharedWith: img.SharedWith}); err != nil {
			return err
		}
		edited = imageOf(row)
		return tellOfEdit(ctx, tx, before, row)
	})
	return edited, err
}

// tellOfEdit tells what an edit of an image changed: who may use it, its name, or both.
func tellOfEdit(ctx context.Context, tx pgx.Tx, before, after vmdb.Image) error {
	if before.Visibility != after.Visibility || !slices.Equal(before.SharedWith, after.SharedWith) {
		if err := tell(ctx, tx, imageTold(after), "shared", map[string]any{"visibility": after.Visibility, "shared_with": after.SharedWith}); err != nil {
			return err
		}
	}
	if before.Name == after.Name {
		return nil
	}
	return tell(ctx, tx, imageTold(after), "updated", map[string]any{"name_before": before.Name})
}

// TouchUpload notes that an upload in parts goes on.
func (s *Store) TouchUpload(ctx context.Context, id uuid.UUID) error {
	return pg.Map(s.q.ImageTouch(ctx, s.pool, id))
}

// StaleUploads lists the uploads in parts that nothing has come of for so long.
func (s *Store) StaleUploads(ctx context.Context, age time.Duration) ([]uuid.UUID, error) {
	ids, err := s.q.ImagesStale(ctx, s.pool, age.Seconds())
	return ids, pg.Map(err)
}

// DropUpload removes the row of an upload in parts that came to nothing, and tells whether there was one; why is for the event.
func (s *Store) DropUpload(ctx context.Context, id uuid.UUID, why map[string]any) (dropped bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageUploadDelete(ctx, tx, id)
		dropped = err == nil
		return tellRow(ctx, tx, row, err, imageTold, "failed", why)
	})
	return dropped && err == nil, err
}

// ImageScreened notes what an import turned out to be.
func (s *Store) ImageScreened(ctx context.Context, img ImageRecord) error {
	return pg.Map(s.q.ImageScreened(ctx, s.pool, vmdb.ImageScreenedParams{ID: img.ID, Kind: string(img.Kind), Format: img.Format, UploadSha256: img.SHA256,
		VirtualSizeBytes: img.VirtualSizeBytes}))
}

// ImageImported notes that the image's file is in its place.
func (s *Store) ImageImported(ctx context.Context, id uuid.UUID, sha256 string, size, virtual int64) error {
	return pg.Map(s.q.ImageReady(ctx, s.pool, vmdb.ImageReadyParams{ID: id, Sha256: sha256, SizeBytes: size, VirtualSizeBytes: virtual}))
}

// EndImage is what the end of an import does to the image's row. Behind one that did not succeed there is no file, also where it had said already
// that there is.
func (s *Store) EndImage(ctx context.Context, tx pgx.Tx, op operation.Operation) error {
	if op.Status == operation.StatusSucceeded {
		row, err := s.q.ImageGet(ctx, tx, op.TargetID)
		facts := outcome(op)
		facts["kind"], facts["format"], facts["size_bytes"], facts["virtual_size_bytes"] = row.Kind, row.Format, row.SizeBytes, row.VirtualSizeBytes
		return tellRow(ctx, tx, row, err, imageTold, "created", facts)
	}
	row, err := s.q.ImageFailed(ctx, tx, vmdb.ImageFailedParams{ID: op.TargetID, Error: errs.Encode(op.Error)})
	return tellRow(ctx, tx, row, err, imageTold, "failed", outcome(op))
}

// DeleteImage removes an image's row if it is of the version that the caller has seen, nil any. It is refused while virtual machines were made from it.
func (s *Store) DeleteImage(ctx context.Context, id uuid.UUID, seen *int64) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.ImageDelete(ctx, tx, vmdb.ImageDeleteParams{ID: id, Seen: seen})
		if errors.Is(err, pgx.ErrNoRows) && seen != nil {
			return vm.ErrImageVersion
		}
		return tellRow(ctx, tx, row, err, imageTold, "deleted", nil)
	})
	if constraint, _ := pg.Violation(err); constraint == "vms_image_id_fkey" || constraint == "volumes_image_id_fkey" || constraint == "vms_rebuild_image_id_fkey" || constraint == "vms_rescue_image_id_fkey" || constraint == "vm_media_image_id_fkey" {
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
