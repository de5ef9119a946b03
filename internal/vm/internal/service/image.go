package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

type importInput struct {
	Format string `json:"format"`
}

func (s *Service) imageSagas() []operation.Saga {
	remove := func(_ context.Context, run *operation.Run) error { return s.images.Remove(run.Operation().TargetID) }
	return []operation.Saga{{Kind: store.KindImageImport, Deadline: 2 * time.Hour, OnEnd: s.store.EndImage, Steps: []operation.Step{
		{Name: "convert", Weight: 5, Do: func(ctx context.Context, run *operation.Run) error {
			var in importInput
			if err := run.Input(&in); err != nil {
				return err
			}
			return s.images.Convert(ctx, run.Operation().TargetID, in.Format)
		}, Undo: remove},
		{Name: "publish", Do: func(ctx context.Context, run *operation.Run) error {
			id := run.Operation().TargetID
			sum, size, err := s.images.Finish(ctx, id)
			if err != nil {
				return err
			}
			return s.store.ImageImported(ctx, id, sum, size)
		}},
	}}}
}

// Upload describes an image that is being sent.
type Upload struct {
	Name     string
	Format   string // what the sender says it is; the header decides, and a contradiction is refused
	Checksum string // "", or "sha256:<hex>"
	Body     io.Reader
}

// ReceiveImage takes an upload whole, screens it, and begins its import.
func (s *Service) ReceiveImage(ctx context.Context, up Upload) (vm.Image, error) {
	p := caller(ctx)
	id, err := uuid.NewV7()
	if err != nil {
		return vm.Image{}, fmt.Errorf("make id: %w", err)
	}
	opID, err := uuid.NewV7()
	if err != nil {
		return vm.Image{}, fmt.Errorf("make operation id: %w", err)
	}
	received, err := s.images.Receive(ctx, id, up.Body, up.Checksum)
	if err != nil {
		return vm.Image{}, err
	}
	image, err := s.admit(ctx, vm.Image{ID: id, Name: up.Name, Format: received.Format, SHA256: received.SHA256,
		VirtualSizeBytes: received.VirtualSizeBytes, OwnerID: p.UserID, TenantID: p.TenantID}, up.Format, opID)
	if err != nil {
		if rErr := s.images.Remove(id); rErr != nil {
			s.log.WarnContext(ctx, "refused upload is left to the sweep", "image_id", id, "error", rErr)
		}
		return vm.Image{}, err
	}
	return image, nil
}

func (s *Service) admit(ctx context.Context, image vm.Image, said string, opID uuid.UUID) (vm.Image, error) {
	if said != "" && said != image.Format {
		return vm.Image{}, vm.ErrImageInvalid.WithMessage("the upload is said to be %s, but its header says %s", said, image.Format)
	}
	return s.store.CreateImage(ctx, image, operation.New{ID: opID, Kind: store.KindImageImport, TargetID: image.ID,
		TenantID: image.TenantID, RequestedBy: image.OwnerID, Generation: 1, Input: importInput{Format: image.Format}})
}

// GetImage reads an image that the caller may know.
func (s *Service) GetImage(ctx context.Context, id uuid.UUID) (vm.Image, error) {
	image, err := s.store.GetImage(ctx, id)
	if err != nil {
		return vm.Image{}, err
	}
	if !readable(ctx, image.TenantID, image.OwnerID, "image:read") {
		return vm.Image{}, vm.ErrImageNotFound
	}
	return image.Image, nil
}

// ListImages lists the images of the caller's tenant.
func (s *Service) ListImages(ctx context.Context, name string, after *httpx.Cursor, limit int) ([]vm.Image, error) {
	before, beforeID := position(after)
	p := caller(ctx)
	return s.store.ListImages(ctx, p.TenantID, p.OwnerFilter("image:read"), name, before, beforeID, limit)
}

// DeleteImage removes an image that no virtual machine was made from and that is not being imported.
func (s *Service) DeleteImage(ctx context.Context, id uuid.UUID) error {
	image, err := s.store.GetImage(ctx, id)
	if err == nil {
		err = permitted(ctx, image.TenantID, image.OwnerID, "image:delete", "image:read", vm.ErrImageNotFound)
	}
	if err != nil {
		return err
	}
	if image.OperationID != nil {
		return operation.ErrLocked.WithMessage("the image is still being imported").WithMeta("operation_id", image.OperationID.String())
	}
	if err := s.store.DeleteImage(ctx, id); err != nil {
		return err
	}
	if err := s.images.Remove(id); err != nil {
		s.log.WarnContext(ctx, "file of deleted image is left to the sweep", "image_id", id, "error", err)
	}
	return nil
}

// SweepImages removes files that no image knows: what a crash left behind.
func (s *Service) SweepImages(ctx context.Context) error {
	known, err := s.store.ImageIDs(ctx)
	if err != nil {
		return err
	}
	removed, err := s.images.Sweep(known, time.Hour)
	if removed > 0 {
		s.log.InfoContext(ctx, "leftover image files removed", "count", removed)
	}
	return err
}

// serveImage sends an image's file to a node, any range of it.
func (s *Service) serveImage(w http.ResponseWriter, r *http.Request, image store.ImageRecord) {
	f, err := s.images.Open(image.ID)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

func position(c *httpx.Cursor) (time.Time, uuid.UUID) {
	if c == nil {
		return time.Time{}, uuid.Nil
	}
	return c.CreatedAt, c.ID
}
