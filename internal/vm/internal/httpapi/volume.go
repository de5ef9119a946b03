package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

type VolumePath struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the volume."`
}

// DiskSize is a size in one of two units.
type DiskSize struct {
	SizeGiB   int64 `json:"size_gib,omitempty" minimum:"1" maximum:"65536" doc:"Size in GiB; either this or size_bytes." example:"10"`
	SizeBytes int64 `json:"size_bytes,omitempty" minimum:"1048576" maximum:"70368744177664" doc:"Size in bytes, a whole number of MiB; either this or size_gib."`
}

func (d DiskSize) bytes(required bool) (int64, error) {
	switch {
	case d.SizeGiB != 0 && d.SizeBytes != 0:
		return 0, vm.ErrVolumeInvalid.WithField("body.size_gib", "and size_bytes exclude each other", "")
	case required && d.SizeGiB == 0 && d.SizeBytes == 0:
		return 0, vm.ErrVolumeInvalid.WithField("body.size_gib", "or size_bytes is required", "")
	case d.SizeGiB != 0:
		return d.SizeGiB << 30, nil
	}
	return d.SizeBytes, nil
}

func checkTags(tags map[string]string, refused *errs.Error) error {
	for key, value := range tags {
		if len(key) == 0 || len(key) > 128 || len(value) > 256 {
			return refused.WithField("body.tags", "keys have 1 to 128 and values at most 256 bytes", key)
		}
	}
	return nil
}

type volumeOutput struct {
	ETag string `header:"ETag"`
	Body vm.Volume
}

func volumeETag(v vm.Volume) string {
	return fmt.Sprintf(`"%d-%x"`, v.Generation, v.UpdatedAt.UnixMicro())
}

// DeleteIf lets a deletion say which version of the object it is for.
type DeleteIf struct {
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
}

// matches tells whether an If-Match header lets a change of what has this ETag through.
func matches(header, etag string) bool {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return true
	}
	for candidate := range strings.SplitSeq(header, ",") {
		if strings.TrimSpace(candidate) == etag {
			return true
		}
	}
	return false
}

func (a *API) registerVolumes(kit *httpx.API) {
	type VolumeCreate struct {
		Name        string            `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"data-1"`
		Description string            `json:"description,omitempty" maxLength:"1024"`
		Tags        map[string]string `json:"tags,omitempty" maxProperties:"64" doc:"Free labels."`
		Format      string            `json:"format,omitempty" enum:"qcow2,raw" default:"qcow2" doc:"Snapshots need qcow2."`
		DiskSize
		ImageID *uuid.UUID `json:"image_id,omitempty" format:"uuid" doc:"Image that it is made from; without one it is empty."`
		VMID    *uuid.UUID `json:"vm_id,omitempty" format:"uuid" doc:"Virtual machine on whose node it is made. It is not attached. Default: the node with the most room."`
	}
	type createInput struct {
		WaitParams
		Body VolumeCreate
	}
	httpx.Handle(kit, httpx.Op{ID: "volume-create", Method: http.MethodPost, Path: "/api/v1/volumes", Permission: "volume:create", Owned: true,
		Summary: "Create a volume", Tag: "volumes", Status: http.StatusAccepted,
		Description: "Reserves storage for it, charges it to the quota and makes it, empty or from an image. Answers with the operation that does so.",
		Errors: []*errs.Error{vm.ErrVolumeInvalid, vm.ErrVolumeTaken, vm.ErrImageNotFound, vm.ErrImageFailed, vm.ErrNotFound, scheduler.ErrNoFit,
			scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *createInput) (*accepted, error) {
			size, err := in.Body.bytes(in.Body.ImageID == nil)
			if err != nil {
				return nil, err
			}
			if err := checkTags(in.Body.Tags, vm.ErrVolumeInvalid); err != nil {
				return nil, err
			}
			op, err := a.svc.CreateVolume(ctx, service.CreateVolumeRequest{Name: in.Body.Name, Description: in.Body.Description, Tags: in.Body.Tags,
				Format: vm.VolumeFormat(in.Body.Format), SizeBytes: size, ImageID: in.Body.ImageID, VMID: in.Body.VMID, IdempotencyKey: idempotent.Key(ctx)})
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type listInput struct {
		httpx.PageParams
		Name     string   `query:"name" maxLength:"63" doc:"Only the one of this name."`
		VMID     string   `query:"vm_id" format:"uuid" doc:"Only those attached to this virtual machine."`
		Tag      []string `query:"tag,explode" maxItems:"8" doc:"Only those with this tag: 'key=value', or 'key' for any value. Given more than once: only those with all of them." example:"env=prod"`
		TenantID string   `query:"tenant_id" enum:"all" doc:"'all' lists every tenant's; needs the permission on the platform."`
	}
	type listOutput struct{ Body httpx.Page[vm.Volume] }
	httpx.Handle(kit, httpx.Op{ID: "volume-list", Method: http.MethodGet, Path: "/api/v1/volumes", Permission: "volume:read", Owned: true,
		Summary: "List volumes, newest first", Tag: "volumes", Errors: []*errs.Error{httpx.ErrCursor, vm.ErrVolumeInvalid}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := httpx.ParseCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			tags, err := tagsOf(in.Tag, vm.ErrVolumeInvalid)
			if err != nil {
				return nil, err
			}
			req := service.ListVolumesRequest{AllTenants: in.TenantID == "all", Name: in.Name, Tags: tags, After: after, Limit: in.Limit + 1}
			if id, err := uuid.Parse(in.VMID); err == nil {
				req.VMID = &id
			}
			volumes, err := a.svc.ListVolumes(ctx, req)
			if err != nil {
				return nil, err
			}
			return &listOutput{Body: httpx.PageOf(volumes, in.Limit, func(v vm.Volume) httpx.Cursor { return httpx.Cursor{CreatedAt: v.CreatedAt, ID: v.ID} })}, nil
		})

	httpx.Handle(kit, httpx.Op{ID: "volume-get", Method: http.MethodGet, Path: "/api/v1/volumes/{id}", Permission: "volume:read", Owned: true,
		Summary: "Read a volume", Tag: "volumes", Errors: []*errs.Error{vm.ErrVolumeNotFound}},
		func(ctx context.Context, in *VolumePath) (*volumeOutput, error) {
			v, err := a.svc.GetVolume(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return &volumeOutput{ETag: volumeETag(v), Body: v}, nil
		})
	a.registerVolumeChanges(kit)
	a.registerStoragePools(kit)
}

func (a *API) registerVolumeChanges(kit *httpx.API) {
	type VolumeUpdate struct {
		Name        *string            `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		Description *string            `json:"description,omitempty" maxLength:"1024"`
		Tags        *map[string]string `json:"tags,omitempty" maxProperties:"64" doc:"Replaces all tags."`
	}
	type updateInput struct {
		VolumePath
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    VolumeUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "volume-update", Method: http.MethodPatch, Path: "/api/v1/volumes/{id}", Permission: "volume:update", Owned: true,
		Summary: "Change the name, the description or the tags of a volume", Tag: "volumes",
		Errors: []*errs.Error{vm.ErrVolumeNotFound, vm.ErrVolumeTaken, vm.ErrVolumeInvalid, vm.ErrVolumeVersion}},
		func(ctx context.Context, in *updateInput) (*volumeOutput, error) {
			change := service.VolumeChange{Name: in.Body.Name, Description: in.Body.Description,
				IfMatch: func(v vm.Volume) bool { return matches(in.IfMatch, volumeETag(v)) }}
			if in.Body.Tags != nil {
				if err := checkTags(*in.Body.Tags, vm.ErrVolumeInvalid); err != nil {
					return nil, err
				}
				if change.Tags = *in.Body.Tags; change.Tags == nil {
					change.Tags = map[string]string{}
				}
			}
			v, err := a.svc.UpdateVolume(ctx, in.ID, change)
			if err != nil {
				return nil, err
			}
			return &volumeOutput{ETag: volumeETag(v), Body: v}, nil
		})

	type VolumeResize struct{ DiskSize }
	type resizeInput struct {
		VolumePath
		WaitParams
		Body VolumeResize
	}
	httpx.Handle(kit, httpx.Op{ID: "volume-resize", Method: http.MethodPost, Path: "/api/v1/volumes/{id}/resize", Permission: "volume:update", Owned: true,
		Summary: "Make a volume larger, while its guest runs or not", Tag: "volumes", Status: http.StatusAccepted,
		Errors: []*errs.Error{vm.ErrVolumeNotFound, vm.ErrVolumeInvalid, vm.ErrVolumeShrink, vm.ErrVolumeBusy, vm.ErrVolumeNotReady, vm.ErrLocked,
			scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *resizeInput) (*accepted, error) {
			size, err := in.Body.bytes(true)
			if err != nil {
				return nil, err
			}
			op, err := a.svc.ResizeVolume(ctx, in.ID, size, idempotent.Key(ctx))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type deleteInput struct {
		VolumePath
		WaitParams
		DeleteIf
	}
	httpx.Handle(kit, httpx.Op{ID: "volume-delete", Method: http.MethodDelete, Path: "/api/v1/volumes/{id}", Permission: "volume:delete", Owned: true,
		Summary: "Delete a volume that is attached to nothing", Tag: "volumes", Status: http.StatusAccepted,
		Errors: []*errs.Error{vm.ErrVolumeNotFound, vm.ErrVolumeInUse, vm.ErrVolumeBusy, vm.ErrVolumeVersion}},
		func(ctx context.Context, in *deleteInput) (*accepted, error) {
			op, err := a.svc.DeleteVolume(ctx, in.ID, func(v vm.Volume) bool { return matches(in.IfMatch, volumeETag(v)) })
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}

func (a *API) registerStoragePools(kit *httpx.API) {
	type listInput struct{ httpx.PageParams }
	type listOutput struct{ Body httpx.Page[vm.StoragePool] }
	httpx.Handle(kit, httpx.Op{ID: "storage-pool-list", Method: http.MethodGet, Path: "/api/v1/storage-pools", Permission: "node:read",
		Summary: "List the storage pools of the nodes, the latest registered first", Tag: "storage-pools", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := httpx.ParseCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			pools, at, err := a.svc.StoragePools(ctx, after, in.Limit+1)
			if err != nil {
				return nil, err
			}
			page := httpx.Page[vm.StoragePool]{Items: pools}
			if len(pools) > in.Limit {
				page.Items, page.NextCursor = pools[:in.Limit], at[in.Limit-1].Key()
			}
			return &listOutput{Body: page}, nil
		})
	type PoolPath struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the storage pool, which is that of its node."`
	}
	type getOutput struct{ Body vm.StoragePool }
	httpx.Handle(kit, httpx.Op{ID: "storage-pool-get", Method: http.MethodGet, Path: "/api/v1/storage-pools/{id}", Permission: "node:read",
		Summary: "Read a storage pool", Tag: "storage-pools", Errors: []*errs.Error{vm.ErrPoolNotFound}},
		func(ctx context.Context, in *PoolPath) (*getOutput, error) {
			pool, err := a.svc.StoragePool(ctx, in.ID)
			return &getOutput{Body: pool}, err
		})
}
