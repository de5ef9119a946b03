package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// snapshotTimeout bounds the work of qemu-img on one snapshot of one disk, which grows with what the disk holds.
const snapshotTimeout = 10 * time.Minute

// held is what a qcow2 file tells of a snapshot in it.
type held struct {
	Name        string `json:"name"`
	MemoryBytes int64  `json:"vm-state-size"`
}

// snapshots lists the snapshots in a disk, also of one that a guest has open.
func (s *Store) snapshots(ctx context.Context, path string) ([]held, error) {
	out, err := s.tool(ctx, toolTimeout, "info", "--force-share", "--output=json", "-f", qcow2, path)
	if err != nil {
		return nil, err
	}
	var info struct{ Snapshots []held }
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, nodeapi.ErrStorage.WithMessage("what qemu-img tells of a disk cannot be read").Wrap(err)
	}
	return info.Snapshots, nil
}

// Holds tells whether a disk holds a snapshot, and how much memory that has in it.
func (s *Store) Holds(ctx context.Context, path string, snapshot uuid.UUID) (holds bool, memory int64, err error) {
	list, err := s.snapshots(ctx, path)
	for _, h := range list {
		if h.Name == snapshot.String() {
			return true, h.MemoryBytes, nil
		}
	}
	return false, 0, err
}

// TakeSnapshot makes a disk that no guest has open hold a snapshot, once.
func (s *Store) TakeSnapshot(ctx context.Context, path string, snapshot uuid.UUID) error {
	if have, _, err := s.Holds(ctx, path, snapshot); err != nil || have {
		return err
	}
	_, err := s.tool(ctx, snapshotTimeout, "snapshot", "-q", "-c", snapshot.String(), path)
	return err
}

// DropSnapshot makes a disk that no guest has open forget a snapshot. It is idempotent.
func (s *Store) DropSnapshot(ctx context.Context, path string, snapshot uuid.UUID) error {
	have, _, err := s.Holds(ctx, path, snapshot)
	if err != nil || !have {
		return err
	}
	_, err = s.tool(ctx, snapshotTimeout, "snapshot", "-q", "-d", snapshot.String(), path)
	return err
}

// Revert takes a disk that no guest has open back to a snapshot.
func (s *Store) Revert(ctx context.Context, path string, snapshot uuid.UUID) error {
	have, _, err := s.Holds(ctx, path, snapshot)
	if err != nil {
		return err
	}
	if !have {
		return nodeapi.ErrSnapshotLost
	}
	_, err = s.tool(ctx, snapshotTimeout, "snapshot", "-q", "-a", snapshot.String(), path)
	return err
}

// SnapshotRecord is what a node keeps of a snapshot that is complete.
type SnapshotRecord struct {
	Taken nodeapi.SnapshotTaken `json:"taken"`
	// Definition is the hypervisor's own record of a snapshot with memory, without which it cannot go back.
	Definition string `json:"definition,omitempty"`
}

// snapshotsFolder is where in the folder of a virtual machine its snapshots are noted.
const snapshotsFolder = "snapshots"

func (s *Store) snapshotPath(vm, snapshot uuid.UUID) string {
	return filepath.Join(s.folder(vm), snapshotsFolder, snapshot.String()+".json")
}

// Snapshot reads what is kept of a snapshot; false where it was never completed.
func (s *Store) Snapshot(vm, snapshot uuid.UUID) (SnapshotRecord, bool, error) {
	return read[SnapshotRecord](s.snapshotPath(vm, snapshot))
}

// KeepSnapshot notes that a snapshot is complete.
func (s *Store) KeepSnapshot(vm, snapshot uuid.UUID, r SnapshotRecord) error {
	if err := makeFolder(filepath.Dir(s.snapshotPath(vm, snapshot))); err != nil {
		return failed("make the folder of snapshots", err)
	}
	if err := write(s.snapshotPath(vm, snapshot), r); err != nil {
		return err
	}
	return syncDirs(s.folder(vm), s.disks)
}

// ForgetSnapshot undoes KeepSnapshot.
func (s *Store) ForgetSnapshot(vm, snapshot uuid.UUID) error {
	return remove(s.snapshotPath(vm, snapshot))
}

// Marks of what a crash must not leave half done.
const (
	markFrozen = "frozen"    // the guest's file systems may be held
	markRevert = "reverting" // some disks may have gone back to a snapshot and others not
)

func (s *Store) markPath(vm uuid.UUID, mark string) string {
	return filepath.Join(s.folder(vm), mark+".json")
}

// MarkFrozen notes, before it is tried, that a guest's file systems may be held from now on.
func (s *Store) MarkFrozen(vm uuid.UUID) error { return write(s.markPath(vm, markFrozen), struct{}{}) }

// ClearFrozen notes that they are held no more.
func (s *Store) ClearFrozen(vm uuid.UUID) error { return remove(s.markPath(vm, markFrozen)) }

// Frozen lists the virtual machines whose guests' file systems may be held.
func (s *Store) Frozen() ([]uuid.UUID, error) {
	vms, err := s.VMs()
	if err != nil {
		return nil, err
	}
	var frozen []uuid.UUID
	for _, vm := range vms {
		if _, err := os.Stat(s.markPath(vm, markFrozen)); err == nil {
			frozen = append(frozen, vm)
		}
	}
	return frozen, nil
}

// IsFrozen tells whether a guest's file systems may be held.
func (s *Store) IsFrozen(vm uuid.UUID) (bool, error) {
	_, there, err := read[struct{}](s.markPath(vm, markFrozen))
	return there, err
}

// MarkRevert notes that the disks begin to go back to a snapshot.
func (s *Store) MarkRevert(vm uuid.UUID, r nodeapi.SnapshotRevert) error {
	return write(s.markPath(vm, markRevert), r)
}

// Reverting reads what MarkRevert noted; false where nothing did, or it was cleared.
func (s *Store) Reverting(vm uuid.UUID) (nodeapi.SnapshotRevert, bool, error) {
	return read[nodeapi.SnapshotRevert](s.markPath(vm, markRevert))
}

// ClearRevert notes that all disks have gone back.
func (s *Store) ClearRevert(vm uuid.UUID) error { return remove(s.markPath(vm, markRevert)) }

func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return failed("write a note", err)
	}
	return nil
}

func read[T any](path string) (v T, there bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, failed("read a note", err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, false, failed("read a note", fmt.Errorf("%s is damaged: %w", path, err))
	}
	return v, true, nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove a note", err)
	}
	return nil
}

func syncDirs(dirs ...string) error {
	for _, d := range dirs {
		if err := atomicfile.SyncDir(d); err != nil {
			return failed("make a folder durable", err)
		}
	}
	return nil
}
