package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/imagefetch"
	"github.com/novacron/novacron/internal/vm/internal/imagestore"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

type importInput struct {
	Format string `json:"format"`
}

type fetchInput struct {
	URL    string              `json:"url"`
	Expect imagestore.Expected `json:"expect"`
}

// imageSagas lists what makes images. An import from an address begins with what an upload has behind it.
func (s *Service) imageSagas() []operation.Saga {
	remove := func(_ context.Context, run *operation.Run) error { return s.images.Remove(run.Operation().TargetID) }
	make := []operation.Step{{Name: "convert", Weight: 5, Do: s.onImage(func(ctx context.Context, image store.ImageRecord) error {
		return s.images.Convert(ctx, image.ID, image.Kind, image.Format)
	}), Undo: remove}, {Name: "publish", Do: s.onImage(func(ctx context.Context, image store.ImageRecord) error {
		done, err := s.images.Finish(ctx, image.ID, image.Kind)
		if err != nil {
			return err
		}
		return s.store.ImageImported(ctx, image.ID, done.SHA256, done.Size, done.VirtualSizeBytes)
	})}}
	return []operation.Saga{
		{Kind: store.KindImageImport, Deadline: 2 * time.Hour, OnEnd: s.store.EndImage, Steps: make},
		{Kind: store.KindImageFetch, Deadline: 12 * time.Hour, OnEnd: s.store.EndImage, Steps: append([]operation.Step{
			{Name: "fetch", Weight: 10, Do: s.fetchImage, Undo: remove},
			{Name: "screen", Do: s.screenImage}}, make...)},
	}
}

func (s *Service) onImage(step func(context.Context, store.ImageRecord) error) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		image, err := s.store.GetImage(ctx, run.Operation().TargetID)
		if err != nil {
			return err
		}
		return step(ctx, image)
	}
}

// fetchImage gets the file. After the end of a process, the next one goes on where it was if the server can prove that its file is the same.
func (s *Service) fetchImage(ctx context.Context, run *operation.Run) error {
	var in fetchInput
	if err := run.Input(&in); err != nil {
		return err
	}
	var mark imagefetch.Mark
	if err := run.State(&mark); err != nil {
		return err
	}
	f, err := s.images.OpenFetch(run.Operation().TargetID)
	if err != nil {
		return err
	}
	defer f.Close() // synced by Fetch
	return s.fetcher.Fetch(ctx, in.URL, f, mark, func(m imagefetch.Mark) error { return run.SetState(ctx, m) }, func(done, total int64) {
		if total > 0 {
			run.Progress(ctx, int(done*100/total))
		}
	})
}

func (s *Service) screenImage(ctx context.Context, run *operation.Run) error {
	var in fetchInput
	if err := run.Input(&in); err != nil {
		return err
	}
	id := run.Operation().TargetID
	received, err := s.images.Complete(ctx, id, in.Expect)
	if err != nil {
		return err
	}
	return s.store.ImageScreened(ctx, screened(store.ImageRecord{Image: vm.Image{ID: id}}, received))
}

// screened fills in what the bytes of an image have told.
func screened(image store.ImageRecord, r imagestore.Received) store.ImageRecord {
	image.Kind, image.Format, image.SHA256, image.VirtualSizeBytes = r.Kind, r.Format, r.SHA256, r.VirtualSizeBytes
	return image
}

// Upload describes an image that is sent, whole or in parts, or fetched.
type Upload struct {
	Name       string
	Kind       vm.ImageKind // "": disk or iso, as the header says
	Format     string       // what the sender says it is; the header decides, and a contradiction is refused
	Checksum   string       // "", or "sha256:<hex>"
	Visibility vm.ImageVisibility
	SharedWith []uuid.UUID
	Body       io.Reader // of ReceiveImage
	Size       int64     // of BeginUpload
	URL        string    // of FetchImage
	// IdempotencyKey is that of FetchImage.
	IdempotencyKey string
}

func (u Upload) expected() imagestore.Expected {
	return imagestore.Expected{Kind: u.Kind, Format: u.Format, Checksum: u.Checksum}
}

// draft makes the row of an upload.
func (s *Service) draft(ctx context.Context, up Upload, status vm.ImageStatus) (store.ImageRecord, error) {
	p := caller(ctx)
	image := store.ImageRecord{Image: vm.Image{Name: up.Name, Status: status, Kind: up.Kind, Visibility: up.Visibility, SharedWith: up.SharedWith,
		OwnerID: p.UserID, TenantID: p.TenantID}, SaidFormat: up.Format}
	if image.Kind == "" {
		image.Kind = vm.ImageDisk
	}
	if image.Visibility == "" {
		image.Visibility = vm.ImagePrivate
	}
	if err := mayShowAll(ctx, vm.ImagePrivate, image.Visibility); err != nil {
		return image, err
	}
	var err error
	if image.ID, err = uuid.NewV7(); err != nil {
		return image, fmt.Errorf("make id: %w", err)
	}
	return image, nil
}

// mayShowAll refuses to show an image to all tenants, or to take it from them, without a permission on the platform: what all may boot from
// is everybody's affair.
func mayShowAll(ctx context.Context, from, to vm.ImageVisibility) error {
	if from != to && (from == vm.ImagePublic || to == vm.ImagePublic) && !caller(ctx).AllowsPlatform("image:update") {
		return httpx.MissingPlatform("image:update")
	}
	return nil
}

func importOf(kind string, image store.ImageRecord, by uuid.UUID, input any) (operation.New, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return operation.New{}, fmt.Errorf("make operation id: %w", err)
	}
	return operation.New{ID: id, Kind: kind, TargetID: image.ID, TenantID: image.TenantID, RequestedBy: by, Generation: 1, Input: input}, nil
}

// ReceiveImage takes an upload whole, screens it, and begins its import.
func (s *Service) ReceiveImage(ctx context.Context, up Upload) (vm.Image, error) {
	image, err := s.draft(ctx, up, vm.ImageImporting)
	if err != nil {
		return vm.Image{}, err
	}
	received, err := s.images.Receive(ctx, image.ID, up.Body, up.expected())
	if err != nil {
		return vm.Image{}, err
	}
	op, err := importOf(store.KindImageImport, image, caller(ctx).UserID, importInput{Format: received.Format})
	if err == nil {
		image, err = s.store.CreateImage(ctx, screened(image, received), &op)
	}
	if err != nil {
		s.forget(ctx, image.ID)
		return vm.Image{}, err
	}
	return image.Image, nil
}

// forget removes the files of an image that has no row.
func (s *Service) forget(ctx context.Context, id uuid.UUID) {
	if err := s.images.Remove(id); err != nil {
		s.log.WarnContext(ctx, "file of an image is left to the sweep", "image_id", id, "error", err)
	}
}

// FetchImage begins to import an image from an address.
func (s *Service) FetchImage(ctx context.Context, up Upload) (operation.Operation, error) {
	p := caller(ctx)
	if up.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindImageFetch, up.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	if err := s.fetcher.Check(up.URL); err != nil {
		return operation.Operation{}, err
	}
	image, err := s.draft(ctx, up, vm.ImageImporting)
	if err != nil {
		return operation.Operation{}, err
	}
	image.SourceURL = up.URL
	op, err := importOf(store.KindImageFetch, image, p.UserID, fetchInput{URL: up.URL, Expect: up.expected()})
	if err != nil {
		return operation.Operation{}, err
	}
	op.IdempotencyKey = up.IdempotencyKey
	if _, err := s.store.CreateImage(ctx, image, &op); err != nil {
		return operation.Operation{}, err
	}
	return s.ops.Get(ctx, op.ID)
}

// BeginUpload makes an image whose bytes follow in parts.
func (s *Service) BeginUpload(ctx context.Context, up Upload) (vm.Image, error) {
	if up.Size > s.cfg.MaxImageBytes {
		return vm.Image{}, vm.ErrImageTooLarge.WithMessage("the upload is larger than the %d bytes that are accepted", s.cfg.MaxImageBytes)
	}
	image, err := s.draft(ctx, up, vm.ImageUploading)
	if err != nil {
		return vm.Image{}, err
	}
	image.DeclaredBytes, image.SHA256 = up.Size, up.Checksum
	image, err = s.store.CreateImage(ctx, image, nil)
	return s.shown(ctx, image), err
}

// upload finds an upload in parts that the caller may go on with.
func (s *Service) upload(ctx context.Context, id uuid.UUID) (store.ImageRecord, error) {
	image, err := s.imageTo(ctx, id, "image:create")
	if err == nil && image.Status != vm.ImageUploading {
		err = vm.ErrImageNotUploading.WithMessage("the image is %s", image.Status)
	}
	return image, err
}

// UploadOffset tells how much of an upload in parts has arrived, and how much there is. An image that has arrived whole has all of it.
func (s *Service) UploadOffset(ctx context.Context, id uuid.UUID) (offset, size int64, err error) {
	image, err := s.imageTo(ctx, id, "image:create")
	if err != nil {
		return 0, 0, err
	}
	if image.Status != vm.ImageUploading {
		return image.DeclaredBytes, image.DeclaredBytes, nil
	}
	offset, err = s.images.Offset(id)
	return offset, image.DeclaredBytes, err
}

// ReceivePart takes a part of an upload. The last one begins the import, and what it refuses is gone with all the parts before.
func (s *Service) ReceivePart(ctx context.Context, id uuid.UUID, offset int64, body io.Reader) (vm.Image, error) {
	image, err := s.upload(ctx, id)
	if err != nil {
		return vm.Image{}, err
	}
	now, err := s.images.Append(ctx, id, offset, image.DeclaredBytes, body)
	if tErr := s.store.TouchUpload(context.WithoutCancel(ctx), id); err == nil {
		err = tErr
	}
	if err != nil || now < image.DeclaredBytes {
		image.ReceivedBytes = now
		return image.Image, err
	}
	// From here on the end of the connection changes nothing: the bytes are here.
	ctx = context.WithoutCancel(ctx)
	received, err := s.images.Complete(ctx, id, imagestore.Expected{Kind: s.saidKind(image), Format: image.SaidFormat, Checksum: image.SHA256})
	if isRefusal(err) {
		if dropped, dErr := s.store.DropUpload(ctx, id, map[string]any{"code": errs.From(err).Code}); dErr == nil && dropped {
			s.forget(ctx, id)
		}
	}
	if err != nil {
		return vm.Image{}, err
	}
	op, err := importOf(store.KindImageImport, image, caller(ctx).UserID, importInput{Format: received.Format})
	if err != nil {
		return vm.Image{}, err
	}
	image, err = s.store.BeginImport(ctx, screened(image, received), op)
	return image.Image, err
}

// saidKind is what the sender wanted. Disk is what stands in a row of which nothing was said.
func (s *Service) saidKind(image store.ImageRecord) vm.ImageKind {
	if image.Kind == vm.ImageDisk {
		return ""
	}
	return image.Kind
}

// ReapUploads gives up uploads in parts that nothing has come of for long.
func (s *Service) ReapUploads(ctx context.Context) error {
	stale, err := s.store.StaleUploads(ctx, s.cfg.UploadTTL)
	if err != nil {
		return err
	}
	for _, id := range stale {
		if s.images.Busy(id) {
			continue
		}
		dropped, err := s.store.DropUpload(ctx, id, map[string]any{"reason": "no part came for too long"})
		if err != nil {
			return err
		}
		if dropped {
			s.forget(ctx, id)
			s.log.InfoContext(ctx, "upload in parts given up", "image_id", id, "idle", s.cfg.UploadTTL)
		}
	}
	return nil
}

// offered tells whether another tenant lets the caller use an image.
func offered(ctx context.Context, image store.ImageRecord) bool {
	p := caller(ctx)
	return image.Status == vm.ImageReady && p.AllowsOwn("image:read") && (image.Visibility == vm.ImagePublic ||
		image.Visibility == vm.ImageShared && slices.Contains(image.SharedWith, p.TenantID))
}

// shown leaves out what only the image's own tenant may see.
func (s *Service) shown(ctx context.Context, image store.ImageRecord) vm.Image {
	if image.Status == vm.ImageUploading {
		if offset, err := s.images.Offset(image.ID); err == nil {
			image.ReceivedBytes = offset
		}
		image.SHA256 = ""
	} else {
		image.DeclaredBytes = 0
	}
	if image.SharedWith == nil || !visible(ctx, image.TenantID, "image:read") {
		image.SharedWith = []uuid.UUID{}
	}
	if !visible(ctx, image.TenantID, "image:read") {
		image.SourceURL, image.OwnerID = "", uuid.Nil
	}
	return image.Image
}

// GetImage reads an image that the caller may know.
func (s *Service) GetImage(ctx context.Context, id uuid.UUID) (vm.Image, error) {
	image, err := s.store.GetImage(ctx, id)
	if err != nil {
		return vm.Image{}, err
	}
	if !readable(ctx, image.TenantID, image.OwnerID, "image:read") && !offered(ctx, image) {
		return vm.Image{}, vm.ErrImageNotFound
	}
	return s.shown(ctx, image), nil
}

// imageTo finds an image that the caller may do something to. One that another tenant only lets them use is no secret, and not theirs.
func (s *Service) imageTo(ctx context.Context, id uuid.UUID, permission string) (store.ImageRecord, error) {
	image, err := s.store.GetImage(ctx, id)
	if err != nil {
		return image, err
	}
	missing := error(vm.ErrImageNotFound)
	if !visible(ctx, image.TenantID, "image:read") && offered(ctx, image) {
		missing = httpx.MissingPlatform(permission)
	}
	return image, permitted(ctx, image.TenantID, image.OwnerID, permission, "image:read", missing)
}

// ImageFilter says which images are wanted. Empty parts stand for any.
type ImageFilter struct {
	Name, Kind, Visibility string
	Own                    bool // only those of the caller's tenant
}

// ListImages lists the images of the caller's tenant, and those of others that it may use.
func (s *Service) ListImages(ctx context.Context, f ImageFilter, after *httpx.Cursor, limit int) ([]vm.Image, error) {
	before, beforeID := position(after)
	p := caller(ctx)
	records, err := s.store.ListImages(ctx, store.ImageList{Tenant: p.TenantID, Owner: p.OwnerFilter("image:read"), Foreign: !f.Own, Name: f.Name, Kind: f.Kind,
		Visibility: f.Visibility, Before: before, BeforeID: beforeID, Limit: limit})
	if err != nil {
		return nil, err
	}
	images := make([]vm.Image, len(records))
	for i, r := range records {
		images[i] = s.shown(ctx, r)
	}
	return images, nil
}

// ImageEdit changes what is not nil.
type ImageEdit struct {
	Name       *string
	Visibility *vm.ImageVisibility
	SharedWith *[]uuid.UUID
}

// UpdateImage changes name and visibility, if the image is still what version tells.
func (s *Service) UpdateImage(ctx context.Context, id uuid.UUID, version func(vm.Image) bool, edit ImageEdit) (vm.Image, error) {
	if _, err := s.imageTo(ctx, id, "image:update"); err != nil {
		return vm.Image{}, err
	}
	image, err := s.store.EditImage(ctx, id, func(image *vm.Image) error {
		if !version(*image) {
			return vm.ErrImageVersion
		}
		before := image.Visibility
		if edit.Name != nil {
			image.Name = *edit.Name
		}
		if edit.Visibility != nil {
			image.Visibility = *edit.Visibility
		}
		if edit.SharedWith != nil {
			image.SharedWith = *edit.SharedWith
		}
		return mayShowAll(ctx, before, image.Visibility)
	})
	return s.shown(ctx, image), err
}

// DeleteImage removes an image that nothing uses and that is not being imported, if it is the version that the caller has read; nil: any. An
// upload in parts is given up.
func (s *Service) DeleteImage(ctx context.Context, id uuid.UUID, version func(vm.Image) bool) error {
	image, err := s.imageTo(ctx, id, "image:delete")
	if err != nil {
		return err
	}
	if err := mayShowAll(ctx, image.Visibility, vm.ImagePrivate); err != nil {
		return err
	}
	var seen *int64
	if version != nil {
		if !version(image.Image) {
			return vm.ErrImageVersion
		}
		seen = &image.Version
	}
	if image.OperationID != nil {
		return operation.ErrLocked.WithMessage("the image is still being imported").WithMeta("operation_id", image.OperationID.String())
	}
	if err := s.store.DeleteImage(ctx, id, seen); err != nil {
		return err
	}
	s.forget(ctx, id)
	return nil
}

// ImageGrace is how long a file may wait for the row of its image while uploads arrive.
const ImageGrace = time.Hour

// SweepImages gives up stale uploads and removes files older than grace that no image knows: what a crash left behind. Before the first request
// nothing is on its way, so that no grace is needed.
func (s *Service) SweepImages(ctx context.Context, grace time.Duration) error {
	if err := s.ReapUploads(ctx); err != nil {
		return err
	}
	known, err := s.store.ImageIDs(ctx)
	if err != nil {
		return err
	}
	removed, err := s.images.Sweep(known, grace)
	if removed > 0 {
		s.log.InfoContext(ctx, "leftover image files removed", "count", removed)
	}
	return err
}

// serveImage sends an image's file to a node, any range of it.
func (s *Service) serveImage(w http.ResponseWriter, r *http.Request, image store.ImageRecord) {
	f, err := s.images.Open(image.ID, image.Kind)
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
