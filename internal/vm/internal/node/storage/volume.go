package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The formats of volumes.
const (
	qcow2 = "qcow2"
	raw   = "raw"
)

// convertTimeout bounds the copy of an image into a raw volume.
const convertTimeout = time.Hour

// VolumePath is where a volume is, and the image below it, which is empty for a volume that stands alone.
func (s *Store) VolumePath(v nodeapi.Volume) (path, backing string, err error) {
	if path, err = s.volumePath(v.ID, v.Format); err != nil {
		return "", "", err
	}
	if v.Format == qcow2 {
		backing, err = s.backingOf(path, v.ID.String())
		return path, backing, err
	}
	if _, err := os.Stat(path); err != nil {
		return "", "", vm.ErrDiskLost.WithMessage("the file of the volume %s is gone from the node", v.ID).Wrap(err)
	}
	return path, "", nil
}

func (s *Store) volumePath(id uuid.UUID, format string) (string, error) {
	if format != qcow2 && format != raw || id == uuid.Nil {
		return "", nodeapi.ErrInvalidCommand.WithMessage("%s of format %q is no volume", id, format)
	}
	return filepath.Join(s.volumes, id.String()+"."+format), nil
}

// EnsureVolume makes a volume, or finds that it is there already.
func (s *Store) EnsureVolume(ctx context.Context, id uuid.UUID, spec nodeapi.VolumeSpec) (nodeapi.FileUsage, error) {
	path, err := s.volumePath(id, spec.Format)
	if err != nil {
		return nodeapi.FileUsage{}, err
	}
	if spec.SizeBytes <= 0 {
		return nodeapi.FileUsage{}, nodeapi.ErrInvalidCommand.WithMessage("a volume of %d bytes cannot be made", spec.SizeBytes)
	}
	image := ""
	if spec.ImageSHA256 != "" {
		if image, err = s.imagePath(spec.ImageSHA256); err != nil {
			return nodeapi.FileUsage{}, err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return usage(path, spec.Format)
	}
	if image != "" && spec.Format == raw {
		err = s.copyImage(ctx, path, image, spec.SizeBytes)
	} else {
		err = s.createVolume(ctx, path, image, spec)
	}
	if err != nil {
		return nodeapi.FileUsage{}, err
	}
	return usage(path, spec.Format)
}

// createVolume makes an empty volume, or one that stands on an image.
func (s *Store) createVolume(ctx context.Context, path, image string, spec nodeapi.VolumeSpec) error {
	s.imagesLock.RLock() // the image must not be swept away from under the new volume
	defer s.imagesLock.RUnlock()
	temp, done, err := s.newDisk(path)
	if err != nil {
		return err
	}
	defer done()
	args := []string{"create", "-q", "-f", spec.Format}
	if image != "" {
		if err := checkBase(image, spec.SizeBytes); err != nil {
			return err
		}
		args = append(args, "-F", qcow2, "-b", image)
	}
	if err := s.qemuImg(ctx, append(args, temp.Name(), strconv.FormatInt(spec.SizeBytes, 10))...); err != nil {
		return err
	}
	return s.finish(temp, path)
}

// copyImage makes a raw volume with the content of an image. The copy may take long, so it holds up nobody: the image is kept from the
// sweep by a name of its own, which a crash leaves to the next start.
func (s *Store) copyImage(ctx context.Context, path, image string, size int64) error {
	temp, done, err := s.newDisk(path)
	if err != nil {
		return err
	}
	defer done()
	source := strings.TrimSuffix(temp.Name(), ".tmp") + ".image.tmp"
	if err := s.linkImage(image, source, size); err != nil {
		return err
	}
	defer os.Remove(source) // removed at the next start otherwise
	if _, err := s.tool(ctx, convertTimeout, "convert", "-f", qcow2, "-O", raw, source, temp.Name()); err != nil {
		return err
	}
	if err := s.qemuImg(ctx, "resize", "-q", "-f", raw, temp.Name(), strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	return s.finish(temp, path)
}

func (s *Store) linkImage(image, name string, size int64) error {
	s.imagesLock.RLock()
	defer s.imagesLock.RUnlock()
	if err := checkBase(image, size); err != nil {
		return err
	}
	if err := os.Link(image, name); err != nil {
		return failed("keep the image of a volume", err)
	}
	return nil
}

// GrowVolume makes a volume that no guest has open as large as is asked for. One that is as large or larger stays as it is.
func (s *Store) GrowVolume(ctx context.Context, id uuid.UUID, spec nodeapi.VolumeSpec) (nodeapi.FileUsage, error) {
	path, err := s.volumePath(id, spec.Format)
	if err != nil {
		return nodeapi.FileUsage{}, err
	}
	if err := s.Grow(ctx, path, spec.Format, spec.SizeBytes); err != nil {
		return nodeapi.FileUsage{}, err
	}
	return usage(path, spec.Format)
}

// Grow makes a file that no guest has open as large as is asked for.
func (s *Store) Grow(ctx context.Context, path, format string, size int64) error {
	have, err := usage(path, format)
	if err != nil {
		return err
	}
	if have.SizeBytes >= size {
		return nil
	}
	return s.qemuImg(ctx, "resize", "-q", "-f", format, path, strconv.FormatInt(size, 10))
}

// RemoveVolume removes a volume in whatever format it is, and images that only waited for that. It is idempotent.
func (s *Store) RemoveVolume(id uuid.UUID) error {
	for _, format := range []string{qcow2, raw} {
		path, err := s.volumePath(id, format)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("remove the volume", err)
		}
	}
	if err := atomicfile.SyncDir(s.volumes); err != nil {
		return failed("remove the volume", err)
	}
	return s.sweep()
}

// Volumes lists every volume of the node with its usage.
func (s *Store) Volumes() ([]nodeapi.FileUsage, error) {
	entries, err := os.ReadDir(s.volumes)
	if err != nil {
		return nil, failed("list the volumes", err)
	}
	list := []nodeapi.FileUsage{}
	for _, e := range entries {
		name, format, _ := strings.Cut(e.Name(), ".")
		id, err := uuid.Parse(name)
		if err != nil || format != qcow2 && format != raw {
			continue
		}
		u, err := usage(filepath.Join(s.volumes, e.Name()), format)
		if err != nil {
			continue // removed meanwhile, or damaged: what is lost shows where it is used
		}
		u.ID = id
		list = append(list, u)
	}
	return list, nil
}

// DiskUsage tells the usage of a disk of a virtual machine.
func (s *Store) DiskUsage(vm uuid.UUID, name string) (nodeapi.FileUsage, error) {
	path, err := s.diskPath(vm, name)
	if err != nil {
		return nodeapi.FileUsage{}, err
	}
	u, err := usage(path, qcow2)
	u.Name = name
	return u, err
}

// VolumeUsage tells the usage of a volume.
func (s *Store) VolumeUsage(v nodeapi.Volume) (nodeapi.FileUsage, error) {
	path, err := s.volumePath(v.ID, v.Format)
	if err != nil {
		return nodeapi.FileUsage{}, err
	}
	u, err := usage(path, v.Format)
	u.ID = v.ID
	return u, err
}

// usage reads what a file holds and takes.
func usage(path, format string) (nodeapi.FileUsage, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nodeapi.FileUsage{}, failed("look at a disk", fmt.Errorf("stat %s: %w", filepath.Base(path), err))
	}
	u := nodeapi.FileUsage{SizeBytes: st.Size, AllocatedBytes: st.Blocks * 512} // stat(2) counts blocks of 512 bytes
	if format == qcow2 {
		h, err := readHeader(path)
		if err != nil {
			return nodeapi.FileUsage{}, failed("look at a disk", err)
		}
		u.SizeBytes = h.size
	}
	return u, nil
}

// FileSize tells how large the disk in a file is.
func (s *Store) FileSize(path, format string) (int64, error) {
	u, err := usage(path, format)
	return u.SizeBytes, err
}
