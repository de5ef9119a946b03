package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// VolumeCreate is the body that creates a volume. What is left zero gets the server's default.
type VolumeCreate struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Format      string            `json:"format,omitempty"`
	SizeBytes   int64             `json:"size_bytes,omitempty"`
	ImageID     *uuid.UUID        `json:"image_id,omitempty"`
	VMID        *uuid.UUID        `json:"vm_id,omitempty"`
}

// VolumeUpdate is the body that changes a volume; nil leaves as it is.
type VolumeUpdate struct {
	Name        *string            `json:"name,omitempty"`
	Description *string            `json:"description,omitempty"`
	Tags        *map[string]string `json:"tags,omitempty"`
}

type diskSize struct {
	SizeBytes int64 `json:"size_bytes"`
}

// begin sends a request that begins an operation and is not a POST.
func begin(ctx context.Context, c *Client, method, path string, query url.Values) (Object[Operation], error) {
	var op Object[Operation]
	err := c.json(ctx, call{method: method, path: path, query: query}, &op)
	return op, err
}

// ListVolumes gives the volumes that have all of these tags, newest first; name may be empty, most 0.
func (c *Client) ListVolumes(ctx context.Context, name string, most int, tags ...string) iter.Seq2[Object[vm.Volume], error] {
	return list[vm.Volume](ctx, c, "/api/v1/volumes", url.Values{"name": {name}, "tag": tags}, most)
}

// GetVolume reads a volume.
func (c *Client) GetVolume(ctx context.Context, id uuid.UUID) (Object[vm.Volume], error) {
	return get[vm.Volume](ctx, c, "/api/v1/volumes/"+id.String())
}

// CreateVolume begins to create a volume, whose id is the operation's target.
func (c *Client) CreateVolume(ctx context.Context, body VolumeCreate) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/volumes", body)
}

// UpdateVolume changes a volume.
func (c *Client) UpdateVolume(ctx context.Context, id uuid.UUID, body VolumeUpdate) (Object[vm.Volume], error) {
	var v Object[vm.Volume]
	err := c.json(ctx, call{method: http.MethodPatch, path: "/api/v1/volumes/" + id.String(), body: body}, &v)
	return v, err
}

// ResizeVolume begins to make a volume larger.
func (c *Client) ResizeVolume(ctx context.Context, id uuid.UUID, size int64) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/volumes/"+id.String()+"/resize", diskSize{size})
}

// DeleteVolume begins to delete a volume.
func (c *Client) DeleteVolume(ctx context.Context, id uuid.UUID) (Object[Operation], error) {
	return begin(ctx, c, http.MethodDelete, "/api/v1/volumes/"+id.String(), nil)
}

// ListStoragePools gives the storage pools of the nodes.
func (c *Client) ListStoragePools(ctx context.Context) iter.Seq2[Object[vm.StoragePool], error] {
	return list[vm.StoragePool](ctx, c, "/api/v1/storage-pools", nil, 0)
}

func disksPath(id uuid.UUID) string { return "/api/v1/vms/" + id.String() + "/disks" }

// ListDisks gives the disks of a virtual machine.
func (c *Client) ListDisks(ctx context.Context, id uuid.UUID) iter.Seq2[Object[vm.AttachedDisk], error] {
	return listWhole[vm.AttachedDisk](ctx, c, disksPath(id))
}

// AttachDisk begins to attach a volume to a virtual machine.
func (c *Client) AttachDisk(ctx context.Context, id, volume uuid.UUID) (Object[Operation], error) {
	return post[Operation](ctx, c, disksPath(id), map[string]uuid.UUID{"volume_id": volume})
}

// DetachDisk begins to detach a volume.
func (c *Client) DetachDisk(ctx context.Context, id, volume uuid.UUID) (Object[Operation], error) {
	return begin(ctx, c, http.MethodDelete, disksPath(id)+"/"+volume.String(), nil)
}

// ResizeDisk begins to make a disk larger: "root", or an attached volume by its name or id.
func (c *Client) ResizeDisk(ctx context.Context, id uuid.UUID, disk string, size int64) (Object[Operation], error) {
	return post[Operation](ctx, c, disksPath(id)+"/"+url.PathEscape(disk)+"/resize", diskSize{size})
}

// SnapshotCreate is the body that takes a snapshot, or estimates one.
type SnapshotCreate struct {
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	Memory      bool   `json:"memory,omitempty"`
	Quiesce     string `json:"quiesce,omitempty"`
}

// SnapshotRevert says how to go back to a snapshot; nil is the server's default.
type SnapshotRevert struct {
	Memory *bool `json:"memory,omitempty"`
	Start  *bool `json:"start,omitempty"`
}

func snapshotsPath(id uuid.UUID) string { return "/api/v1/vms/" + id.String() + "/snapshots" }

// ListSnapshots gives the snapshots of a virtual machine, newest first.
func (c *Client) ListSnapshots(ctx context.Context, id uuid.UUID) iter.Seq2[Object[vm.Snapshot], error] {
	return list[vm.Snapshot](ctx, c, snapshotsPath(id), nil, 0)
}

// GetSnapshot reads a snapshot.
func (c *Client) GetSnapshot(ctx context.Context, id, snapshot uuid.UUID) (Object[vm.Snapshot], error) {
	return get[vm.Snapshot](ctx, c, snapshotsPath(id)+"/"+snapshot.String())
}

// CreateSnapshot begins to take a snapshot, whose id is the operation's target.
func (c *Client) CreateSnapshot(ctx context.Context, id uuid.UUID, body SnapshotCreate) (Object[Operation], error) {
	return post[Operation](ctx, c, snapshotsPath(id), body)
}

// EstimateSnapshot tells what a snapshot would come to.
func (c *Client) EstimateSnapshot(ctx context.Context, id uuid.UUID, body SnapshotCreate) (Object[vm.SnapshotEstimate], error) {
	return post[vm.SnapshotEstimate](ctx, c, snapshotsPath(id)+"/estimate", body)
}

// RevertSnapshot begins to take a virtual machine back to a snapshot.
func (c *Client) RevertSnapshot(ctx context.Context, id, snapshot uuid.UUID, how SnapshotRevert) (Object[Operation], error) {
	return post[Operation](ctx, c, snapshotsPath(id)+"/"+snapshot.String()+"/revert", how)
}

// DeleteSnapshot begins to delete a snapshot.
func (c *Client) DeleteSnapshot(ctx context.Context, id, snapshot uuid.UUID) (Object[Operation], error) {
	return begin(ctx, c, http.MethodDelete, snapshotsPath(id)+"/"+snapshot.String(), nil)
}
