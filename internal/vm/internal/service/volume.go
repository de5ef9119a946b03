package service

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// CreateVolumeRequest says what to create.
type CreateVolumeRequest struct {
	Name, Description string
	Tags              map[string]string
	Format            vm.VolumeFormat // empty: qcow2
	SizeBytes         int64           // 0: as large as the image
	ImageID           *uuid.UUID      // nil: an empty volume
	VMID              *uuid.UUID      // on the node of this virtual machine; nil: on the node with the most room
	IdempotencyKey    string
}

type volumeInput struct {
	SizeBytes int64 `json:"size_bytes,omitempty"`
}

func (s *Service) volumeSagas() []operation.Saga {
	end := s.store.EndVolume
	return []operation.Saga{
		{Kind: store.KindVolumeCreate, Deadline: 2 * time.Hour, OnEnd: end, Steps: []operation.Step{
			{Name: "place", Do: s.placeVolume, Undo: s.release},
			{Name: "image", Weight: 5, Do: s.onVolume(s.pullVolumeImage)},
			{Name: "file", Do: s.onVolume(s.ensureVolume), Undo: s.onVolume(s.removeVolume)}}},
		{Kind: store.KindVolumeResize, Deadline: time.Hour, OnEnd: end, Steps: []operation.Step{
			{Name: "reserve", Do: s.onVolume(s.reserveVolume), Undo: s.onVolume(s.unreserveVolume)},
			{Name: "grow", Do: s.onVolume(s.growVolume)}}},
		{Kind: store.KindVolumeDelete, Deadline: 24 * time.Hour, OnEnd: end, PointOfNoReturn: "remove", Steps: []operation.Step{
			{Name: "remove", Do: s.onVolume(s.removeVolume)}, {Name: "release", Do: s.release}}},
	}
}

// onVolume gives a step the row as it is now. A row that is gone has nothing left to do for.
func (s *Service) onVolume(step func(context.Context, *operation.Run, vm.Volume) error) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		v, err := s.store.GetVolume(ctx, run.Operation().TargetID)
		if errors.Is(err, vm.ErrVolumeNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return step(ctx, run, v)
	}
}

func (s *Service) placeVolume(ctx context.Context, run *operation.Run) error {
	_, err := s.placer.Confirm(ctx, scheduler.ConfirmRequest{VMID: run.Operation().TargetID})
	return err
}

func (s *Service) pullVolumeImage(ctx context.Context, _ *operation.Run, v vm.Volume) error {
	if v.ImageID == nil {
		return nil
	}
	_, err := s.pull(ctx, *v.ImageID, v.NodeID)
	return err
}

// pull waits for an image and has a node fetch it.
func (s *Service) pull(ctx context.Context, imageID, node uuid.UUID) (store.ImageRecord, error) {
	image, err := s.store.GetImage(ctx, imageID)
	if err != nil {
		return image, err
	}
	switch image.Status {
	case vm.ImageImporting:
		return image, vm.ErrImageBusy
	case vm.ImageUploading:
		return image, vm.ErrImageUploading
	case vm.ImageFailed:
		return image, vm.ErrImageFailed
	}
	url, revoke := s.streams.Offer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.serveImage(w, req, image)
	}), false, pullTimeout)
	defer revoke()
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	_, err = nodeapi.Do[nodeapi.ImagePulled](ctx, s.nodes, nodeapi.Target{NodeID: node}, nodeapi.VerbPullImage, nodeapi.ImagePull{
		ImageID: image.ID, SHA256: image.StoredSHA256, SizeBytes: image.SizeBytes, StreamURL: url, Kind: mediaKind(image.Kind)})
	return image, err
}

// onFile sends a verb about a volume that no virtual machine has, fenced by the volume's own generation.
func onFile[Resp any](ctx context.Context, s *Service, v vm.Volume, verb nodeapi.Verb, req any, timeout time.Duration) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return nodeapi.Do[Resp](ctx, s.nodes, nodeapi.Target{NodeID: v.NodeID, VMID: v.ID, Generation: v.Generation}, verb, req)
}

func (s *Service) ensureVolume(ctx context.Context, _ *operation.Run, v vm.Volume) error {
	spec := nodeapi.VolumeSpec{Format: string(v.Format), SizeBytes: v.SizeBytes}
	if v.ImageID != nil {
		image, err := s.store.GetImage(ctx, *v.ImageID)
		if err != nil {
			return err
		}
		spec.ImageSHA256 = image.StoredSHA256
	}
	var usage nodeapi.FileUsage
	ensure := func() (err error) {
		usage, err = onFile[nodeapi.FileUsage](ctx, s, v, nodeapi.VerbEnsureVolume, spec, pullTimeout)
		return err
	}
	err := ensure()
	if v.ImageID != nil && errors.Is(err, nodeapi.ErrImageMissing) {
		err = s.againWithImage(ctx, *v.ImageID, v.NodeID, ensure)
	}
	if err != nil {
		return err
	}
	return s.store.SetVolumeUsage(ctx, v.ID, usage.AllocatedBytes)
}

func (s *Service) removeVolume(ctx context.Context, _ *operation.Run, v vm.Volume) error {
	if _, err := onFile[nodeapi.Empty](ctx, s, v, nodeapi.VerbRemoveVolume, nodeapi.Empty{}, commandTimeout); err != nil {
		return fmt.Errorf("remove volume from its node: %w", err)
	}
	return nil
}

func (s *Service) reserveVolume(ctx context.Context, run *operation.Run, v vm.Volume) error {
	var in volumeInput
	if err := run.Input(&in); err != nil {
		return err
	}
	_, err := s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: v.ID, StorageBytes: max(in.SizeBytes, v.SizeBytes)})
	return err
}

// unreserveVolume gives back what the volume has not grown by.
func (s *Service) unreserveVolume(ctx context.Context, _ *operation.Run, v vm.Volume) error {
	_, err := s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: v.ID, StorageBytes: v.SizeBytes})
	return err
}

func (s *Service) growVolume(ctx context.Context, run *operation.Run, v vm.Volume) error {
	var in volumeInput
	if err := run.Input(&in); err != nil {
		return err
	}
	usage, err := onFile[nodeapi.FileUsage](ctx, s, v, nodeapi.VerbGrowVolume,
		nodeapi.VolumeSpec{Format: string(v.Format), SizeBytes: in.SizeBytes}, commandTimeout)
	if err != nil {
		return err
	}
	return errors.Join(s.store.SetVolumeSize(ctx, v.ID, usage.SizeBytes), s.store.SetVolumeUsage(ctx, v.ID, usage.AllocatedBytes))
}

// CreateVolume begins to make a volume. Its place is reserved and its quota charged before the answer, so that what does not fit leaves no
// row.
func (s *Service) CreateVolume(ctx context.Context, req CreateVolumeRequest) (operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindVolumeCreate, req.IdempotencyKey); err != nil || ok {
			return op, err
		}
	}
	v, node, err := s.volumeFor(ctx, req)
	if err != nil {
		return operation.Operation{}, err
	}
	reserved, err := s.placer.Reserve(ctx, scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, VMID: v.ID, TenantID: v.TenantID,
		NodeID: node, StorageBytes: v.SizeBytes, TTL: s.cfg.ReservationTTL})
	if err != nil {
		return operation.Operation{}, fmt.Errorf("reserve storage: %w", err)
	}
	v.NodeID = reserved.Allocation.NodeID
	op, err := s.store.CreateVolume(ctx, v, operation.New{Kind: store.KindVolumeCreate, ID: newID(), TargetID: v.ID, TenantID: v.TenantID,
		RequestedBy: p.UserID, Generation: 1, Input: volumeInput{}, IdempotencyKey: req.IdempotencyKey})
	if err != nil {
		s.giveBack(ctx, v.ID)
		return operation.Operation{}, err
	}
	return op, nil
}

// giveBack releases a reservation whose request failed, which would otherwise wait for its expiry. The request may be gone already.
func (s *Service) giveBack(ctx context.Context, id uuid.UUID) {
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := s.placer.Release(undo, scheduler.ReleaseRequest{VMID: id}); err != nil {
		s.log.WarnContext(ctx, "reservation is left to expire", "id", id, "error", err)
	}
}

// newID makes an id. It panics where the system has no random numbers, as uuid.New does.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// The bounds of disks. Sizes are whole MiB, so that every format and every guest can have them.
const (
	minVolume = mib
	maxVolume = 64 << 40
)

func (s *Service) volumeFor(ctx context.Context, req CreateVolumeRequest) (v vm.Volume, node *uuid.UUID, err error) {
	p := caller(ctx)
	if !nameRule.MatchString(req.Name) {
		return v, nil, vm.ErrVolumeInvalid.WithField("body.name", "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end", req.Name)
	}
	if req.ImageID != nil {
		image, err := s.GetImage(ctx, *req.ImageID)
		if err != nil {
			return v, nil, named(ctx, err, vm.ErrImageNotFound, "image:read")
		}
		least := (image.VirtualSizeBytes + mib - 1) / mib * mib
		switch {
		case image.Status == vm.ImageFailed:
			return v, nil, vm.ErrImageFailed
		case image.Status == vm.ImageUploading:
			return v, nil, vm.ErrImageUploading
		case image.Kind != vm.ImageDisk:
			return v, nil, vm.ErrImageKind.WithField("body.image_id", "must be an image of kind disk", image.ID.String())
		case req.SizeBytes == 0:
			req.SizeBytes = least
		case req.SizeBytes < least:
			return v, nil, vm.ErrVolumeInvalid.WithField("body.size_bytes", fmt.Sprintf("must be at least %d, the size of the image", least), fmt.Sprint(req.SizeBytes))
		}
	}
	if err := checkVolumeSize(req.SizeBytes); err != nil {
		return v, nil, err
	}
	if req.VMID != nil {
		r, err := s.record(ctx, *req.VMID)
		if err != nil {
			return v, nil, named(ctx, err, vm.ErrNotFound, "vm:read")
		}
		node = r.NodeID
	}
	if taken, err := s.store.VolumeNameTaken(ctx, p.TenantID, req.Name); err != nil || taken {
		if taken {
			err = vm.ErrVolumeTaken.WithMessage("a volume named %q exists in the tenant", req.Name)
		}
		return v, nil, err
	}
	if req.Tags == nil {
		req.Tags = map[string]string{}
	}
	if req.Format == "" {
		req.Format = vm.VolumeQcow2
	}
	return vm.Volume{ID: newID(), Name: req.Name, Description: req.Description, Tags: req.Tags, Format: req.Format, SizeBytes: req.SizeBytes,
		ImageID: req.ImageID, OwnerID: p.UserID, TenantID: p.TenantID}, node, nil
}

func checkVolumeSize(size int64) error {
	if size < minVolume || size > maxVolume || size%mib != 0 {
		return vm.ErrVolumeInvalid.WithField("body.size_bytes", "must be a whole number of MiB, from 1 MiB to 64 TiB", fmt.Sprint(size))
	}
	return nil
}

// volume reads a volume to which the caller may do what permission names.
func (s *Service) volume(ctx context.Context, id uuid.UUID, permission string) (vm.Volume, error) {
	v, err := s.store.GetVolume(ctx, id)
	if err == nil {
		err = mayVolume(ctx, v, permission)
	}
	if err != nil {
		return vm.Volume{}, err
	}
	return v, nil
}

// mayVolume tells whether the caller may do to a volume what permission names.
func mayVolume(ctx context.Context, v vm.Volume, permission string) error {
	const read = "volume:read"
	if permission == read && readable(ctx, v.TenantID, v.OwnerID, read) {
		return nil
	}
	return permitted(ctx, v.TenantID, v.OwnerID, permission, read, vm.ErrVolumeNotFound)
}

// usageTimeout is how long a reading waits for a node to tell what files take. What it told last has to do otherwise.
const usageTimeout = 2 * time.Second

// GetVolume reads a volume that the caller may know, with its usage as it is now where the node answers.
func (s *Service) GetVolume(ctx context.Context, id uuid.UUID) (vm.Volume, error) {
	v, err := s.volume(ctx, id, "volume:read")
	if err != nil || v.Status == vm.VolumeCreating {
		return v, err
	}
	ask, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	usage, askErr := nodeapi.Do[nodeapi.DiskUsage](ask, s.nodes, nodeapi.Target{NodeID: v.NodeID}, nodeapi.VerbListDisks,
		nodeapi.DiskList{Volumes: []nodeapi.Volume{ref(v)}})
	if askErr == nil && len(usage.Disks) == 1 {
		v.AllocatedBytes = usage.Disks[0].AllocatedBytes
	}
	return v, nil
}

// ref names a volume for its node.
func ref(v vm.Volume) nodeapi.Volume { return nodeapi.Volume{ID: v.ID, Format: string(v.Format)} }

func refs(volumes []vm.Volume) []nodeapi.Volume {
	list := make([]nodeapi.Volume, len(volumes))
	for i, v := range volumes {
		list[i] = ref(v)
	}
	return list
}

// ListVolumesRequest narrows a list.
type ListVolumesRequest struct {
	AllTenants bool // needs the permission on the platform
	Name       string
	VMID       *uuid.UUID
	Tags       []store.Tag
	After      *httpx.Cursor
	Limit      int
}

// ListVolumes lists volumes, newest first.
func (s *Service) ListVolumes(ctx context.Context, req ListVolumesRequest) ([]vm.Volume, error) {
	p := caller(ctx)
	f := store.VolumeFilter{TenantID: &p.TenantID, OwnerID: p.OwnerFilter("volume:read"), Name: req.Name, VMID: req.VMID, Tags: req.Tags, Limit: req.Limit}
	if req.AllTenants {
		if !p.AllowsPlatform("volume:read") {
			return nil, httpx.MissingPlatform("volume:read")
		}
		f.TenantID = nil
	}
	f.Before, f.BeforeID = position(req.After)
	return s.store.ListVolumes(ctx, f)
}

// VolumeChange is what an update changes; nil leaves as it is.
type VolumeChange struct {
	Name, Description *string
	Tags              map[string]string // nil: stays
	IfMatch           func(vm.Volume) bool
}

// UpdateVolume changes name, description and tags, whatever else goes on.
func (s *Service) UpdateVolume(ctx context.Context, id uuid.UUID, change VolumeChange) (vm.Volume, error) {
	if change.Name != nil && !nameRule.MatchString(*change.Name) {
		return vm.Volume{}, vm.ErrVolumeInvalid.WithField("body.name", "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end", *change.Name)
	}
	return s.store.UpdateVolume(ctx, id, func(v *vm.Volume) error {
		if err := mayVolume(ctx, *v, "volume:update"); err != nil {
			return err
		}
		if !change.IfMatch(*v) {
			return vm.ErrVolumeVersion
		}
		if change.Name != nil {
			v.Name = *change.Name
		}
		if change.Description != nil {
			v.Description = *change.Description
		}
		if change.Tags != nil {
			v.Tags = change.Tags
		}
		return nil
	})
}

// DeleteVolume begins to delete a volume that is attached to nothing and of which ifMatch holds.
func (s *Service) DeleteVolume(ctx context.Context, id uuid.UUID, ifMatch func(vm.Volume) bool) (operation.Operation, error) {
	op := operation.New{ID: newID(), Kind: store.KindVolumeDelete, RequestedBy: caller(ctx).UserID, Input: volumeInput{}}
	if _, err := s.volume(ctx, id, "volume:delete"); err != nil {
		return operation.Operation{}, err
	}
	return s.store.BeginVolume(ctx, id, op, true, func(v vm.Volume) error {
		if !ifMatch(v) {
			return vm.ErrVolumeVersion
		}
		if v.VMID != nil {
			return vm.ErrVolumeInUse.WithMeta("vm_id", v.VMID.String())
		}
		return nil
	})
}

// ResizeVolume begins to make a volume larger, while its guest runs or not.
func (s *Service) ResizeVolume(ctx context.Context, id uuid.UUID, size int64, key string) (operation.Operation, error) {
	v, err := s.volume(ctx, id, "volume:update")
	if err != nil {
		return operation.Operation{}, err
	}
	if v.VMID != nil {
		return s.ResizeDisk(ctx, *v.VMID, v.ID.String(), size, key)
	}
	if key != "" {
		if op, ok, err := s.ops.FindByIdempotencyKey(ctx, caller(ctx).UserID, store.KindVolumeResize, key); err != nil || ok {
			return op, err
		}
	}
	if err := s.checkGrowth(ctx, v.ID, v.SizeBytes, size); err != nil {
		return operation.Operation{}, err
	}
	op := operation.New{ID: newID(), Kind: store.KindVolumeResize, RequestedBy: caller(ctx).UserID, Input: volumeInput{SizeBytes: size}, IdempotencyKey: key}
	return s.store.BeginVolume(ctx, id, op, false, func(v vm.Volume) error {
		switch {
		case v.VMID != nil:
			return vm.ErrVolumeInUse.WithMeta("vm_id", v.VMID.String())
		case v.Status != vm.VolumeAvailable:
			return vm.ErrVolumeNotReady
		}
		return shrinks(v.SizeBytes, size)
	})
}

func shrinks(have, want int64) error {
	if want < have {
		return vm.ErrVolumeShrink.WithField("body.size_bytes", fmt.Sprintf("must be at least %d, the size that it has", have), fmt.Sprint(want))
	}
	return nil
}

// checkGrowth refuses a size that is wrong or does not fit before there is an operation, whose first step takes the place.
func (s *Service) checkGrowth(ctx context.Context, id uuid.UUID, have, want int64) error {
	if err := checkVolumeSize(want); err != nil {
		return err
	}
	if err := shrinks(have, want); err != nil {
		return err
	}
	_, err := s.placer.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: id, StorageBytes: want, DryRun: true})
	return err
}

// StoragePools lists the pools of all nodes, the latest registered first.
func (s *Service) StoragePools(ctx context.Context, after *httpx.Cursor, limit int) ([]vm.StoragePool, []httpx.Cursor, error) {
	req := scheduler.ListNodesRequest{Limit: limit}
	if after != nil {
		req.After = &scheduler.Position{Time: after.CreatedAt, ID: after.ID}
	}
	nodes, err := s.placer.ListNodes(ctx, req)
	if err != nil {
		return nil, nil, fmt.Errorf("list nodes: %w", err)
	}
	pools, at := make([]vm.StoragePool, len(nodes.Nodes)), make([]httpx.Cursor, len(nodes.Nodes))
	for i, n := range nodes.Nodes {
		pools[i], at[i] = poolOf(n), httpx.Cursor{CreatedAt: n.RegisteredAt, ID: n.ID}
	}
	return pools, at, nil
}

// StoragePool reads the pool of a node.
func (s *Service) StoragePool(ctx context.Context, id uuid.UUID) (vm.StoragePool, error) {
	n, err := s.placer.GetNode(ctx, scheduler.GetNodeRequest{NodeID: id})
	if errors.Is(err, scheduler.ErrNodeNotFound) {
		err = vm.ErrPoolNotFound
	}
	return poolOf(n.Node), err
}

func poolOf(n scheduler.Node) vm.StoragePool {
	return vm.StoragePool{ID: n.ID, Name: vm.DefaultPool, Type: "dir", NodeID: n.ID, NodeName: n.Name, State: string(n.State),
		CapacityBytes: n.Capacity.StorageBytes, FreeBytes: n.StorageFreeBytes, UsedBytes: max(0, n.Capacity.StorageBytes-n.StorageFreeBytes),
		LimitBytes: min(n.Limits.StorageBytes, math.MaxInt64), AllocatedBytes: n.Allocated.StorageBytes, UpdatedAt: n.LastHeartbeat}
}
