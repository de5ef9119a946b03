package storage

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// cloneTimeout bounds the copy of one disk.
const cloneTimeout = 2 * time.Hour

// CloneDisk copies a disk as a snapshot holds it, whether a guest has it open or not: what a qcow2 file keeps for a snapshot never changes.
// Afterwards the snapshot must be there still; otherwise its place may have been used anew while it was read, and the copy is thrown away.
func (s *Store) CloneDisk(ctx context.Context, vm uuid.UUID, spec nodeapi.DiskClone, snapshot uuid.UUID) error {
	path, err := s.diskPath(vm, spec.Name)
	if err != nil {
		return err
	}
	source, base, err := s.DiskAndBacking(spec.Source, spec.Name)
	if err != nil {
		return nodeapi.ErrCloneGone.Wrap(err)
	}
	args := []string{"convert", "-U", "-f", qcow2, "-l", "snapshot.name=" + snapshot.String(), "-O", qcow2}
	if spec.Linked {
		if base == "" {
			return nodeapi.ErrCloneAlone
		}
		args = append(args, "-F", qcow2, "-B", base)
	}
	temp, done, err := s.newDisk(path)
	if err != nil {
		return err
	}
	defer done()
	if err := s.checkHolds(ctx, source, snapshot); err != nil {
		return err
	}
	if _, err := s.tool(ctx, cloneTimeout, append(args, source, temp.Name())...); err != nil {
		return err
	}
	if err := s.Grow(ctx, temp.Name(), qcow2, spec.SizeBytes); err != nil {
		return err
	}
	s.imagesLock.RLock() // the base stays until the copy that stands on it has its name
	defer s.imagesLock.RUnlock()
	if err := s.checkHolds(ctx, source, snapshot); err != nil {
		return err
	}
	return s.placeDisk(temp, path)
}

func (s *Store) checkHolds(ctx context.Context, path string, snapshot uuid.UUID) error {
	if _, err := os.Stat(path); err != nil {
		return nodeapi.ErrCloneGone.Wrap(err)
	}
	holds, _, err := s.Holds(ctx, path, snapshot)
	if err == nil && !holds {
		err = nodeapi.ErrCloneGone
	}
	return err
}

// IsCloned tells whether a disk is there already, and refuses one of another size.
func (s *Store) IsCloned(vm uuid.UUID, name string, size int64) (bool, error) {
	there, err := s.HasDisk(vm, name)
	if err != nil || !there {
		return false, err
	}
	have, err := s.DiskUsage(vm, name)
	if err == nil && have.SizeBytes != size {
		err = nodeapi.ErrStorage.WithMessage("the disk %q exists with %d bytes, and %d are asked for", name, have.SizeBytes, size)
	}
	return true, err
}

// ReplaceDisk makes a disk anew in place of the one that is there, which no guest may have open.
func (s *Store) ReplaceDisk(ctx context.Context, vm uuid.UUID, spec nodeapi.DiskSpec) error {
	path, image, err := s.newDiskOf(vm, spec)
	if err != nil {
		return err
	}
	if err := s.replaceDisk(ctx, path, image, spec.SizeBytes); err != nil {
		return err
	}
	return s.sweep()
}

func (s *Store) replaceDisk(ctx context.Context, path, image string, size int64) error {
	s.imagesLock.RLock() // the image must not be swept away from under the new disk
	defer s.imagesLock.RUnlock()
	if err := checkBase(image, size); err != nil {
		return err
	}
	return s.createDisk(ctx, path, image, size)
}

// DiskPath tells where a disk is, or would be.
func (s *Store) DiskPath(vm uuid.UUID, name string) (string, error) { return s.diskPath(vm, name) }

// DropDisk removes a disk that nobody has open. It is idempotent.
func (s *Store) DropDisk(vm uuid.UUID, name string) error {
	path, err := s.diskPath(vm, name)
	if err != nil {
		return err
	}
	if err := remove(path); err != nil {
		return err
	}
	return s.sweep()
}

const markClone = "cloning-"

// MarkClone notes, before it is tried, that the disks of a virtual machine may hold a snapshot that is there only to be copied.
func (s *Store) MarkClone(source, clone uuid.UUID, ref nodeapi.SnapshotRef) error {
	return write(s.markPath(source, markClone+clone.String()), ref)
}

// ClearClone notes that it is gone.
func (s *Store) ClearClone(source, clone uuid.UUID) error {
	return remove(s.markPath(source, markClone+clone.String()))
}

// Clones reads what MarkClone noted of a virtual machine.
func (s *Store) Clones(source uuid.UUID) ([]nodeapi.SnapshotRef, error) {
	marks, err := filepath.Glob(s.markPath(source, markClone+"*"))
	if err != nil {
		return nil, failed("look for clones", err)
	}
	var refs []nodeapi.SnapshotRef
	for _, mark := range marks {
		ref, there, err := read[nodeapi.SnapshotRef](mark)
		if err != nil {
			return nil, err
		}
		if there {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}
