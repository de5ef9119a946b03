package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// EnsureDisk makes a disk, or finds that it is there already.
func (s *Store) EnsureDisk(ctx context.Context, vm uuid.UUID, spec nodeapi.DiskSpec) error {
	path, image, err := s.newDiskOf(vm, spec)
	if err != nil {
		return err
	}
	s.imagesLock.RLock() // the image must not be swept away from under the new disk
	defer s.imagesLock.RUnlock()
	have, err := readHeader(path)
	if err == nil {
		return verify(have, image, spec)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return failed("read the disk "+spec.Name, err)
	}
	if err := checkBase(image, spec.SizeBytes); err != nil {
		return err
	}
	return s.createDisk(ctx, path, image, spec.SizeBytes)
}

// newDiskOf tells where a disk is to be and the image that it is to stand on, which is empty for one that stands alone.
func (s *Store) newDiskOf(vm uuid.UUID, spec nodeapi.DiskSpec) (path, image string, err error) {
	if path, err = s.diskPath(vm, spec.Name); err != nil {
		return "", "", err
	}
	if spec.SizeBytes <= 0 {
		return "", "", nodeapi.ErrInvalidCommand.WithMessage("a disk of %d bytes cannot be made", spec.SizeBytes)
	}
	if spec.ImageSHA256 != "" {
		image, err = s.imagePath(spec.ImageSHA256)
	}
	return path, image, err
}

// checkBase refuses an image that is not there, or that a disk has no room for.
func checkBase(image string, size int64) error {
	if image == "" {
		return nil
	}
	base, err := readHeader(image)
	if errors.Is(err, os.ErrNotExist) {
		return nodeapi.ErrImageMissing
	}
	touch(image)
	if err != nil {
		return failed("read the image", err)
	}
	if base.size > size {
		return nodeapi.ErrInvalidCommand.WithMessage("the disk of %d bytes is smaller than its image of %d", size, base.size)
	}
	return nil
}

func verify(have header, image string, spec nodeapi.DiskSpec) error {
	if have.size != spec.SizeBytes || have.backing != image {
		return nodeapi.ErrStorage.WithMessage("the disk %q exists with %d bytes over %q, and %d over %q are asked for",
			spec.Name, have.size, filepath.Base(have.backing), spec.SizeBytes, filepath.Base(image))
	}
	return nil
}

func (s *Store) createDisk(ctx context.Context, path, image string, size int64) (err error) {
	temp, done, err := s.newDisk(path)
	if err != nil {
		return err
	}
	defer done()
	args := []string{"create", "-q", "-f", qcow2}
	if image != "" {
		args = append(args, "-F", qcow2, "-b", image)
	}
	if err := s.qemuImg(ctx, append(args, temp.Name(), strconv.FormatInt(size, 10))...); err != nil {
		return err
	}
	return s.placeDisk(temp, path)
}

// newDisk makes the temporary file of a disk; done closes and removes it unless it has got its final name.
func (s *Store) newDisk(path string) (temp *os.File, done func(), err error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, nil, failed("make the disk's folder", err)
	}
	temp, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, nil, failed("make the disk", err)
	}
	return temp, func() {
		_ = temp.Close()           // synced before
		_ = os.Remove(temp.Name()) // gone under this name when all went well
	}, nil
}

func (s *Store) placeDisk(temp *os.File, path string) error {
	if err := s.finish(temp, path); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(s.disks); err != nil { // the folder itself may be new
		return failed("put the disk in place", err)
	}
	return nil
}

// finish makes a file that a tool has written durable, and gives it its name.
func (s *Store) finish(temp *os.File, path string) error {
	// qemu-img truncates and fills the file that is open here: it is the same inode.
	if err := errors.Join(temp.Chmod(0o600), temp.Sync()); err != nil {
		return failed("make the disk durable", err)
	}
	if err := atomicfile.Publish(temp.Name(), path); err != nil {
		return failed("put the disk in place", err)
	}
	return nil
}

// Limits of qemu-img: it does little work here, and none of it on foreign files that were not screened.
const (
	toolTimeout   = 30 * time.Second
	toolMemory    = 2 << 30
	toolProcessor = 30 // seconds
)

// qemuImg runs qemu-img under limits.
func (s *Store) qemuImg(ctx context.Context, args ...string) error {
	_, err := s.tool(ctx, toolTimeout, args...)
	return err
}

// tool runs qemu-img for so long at most, and gives what it printed.
func (s *Store) tool(ctx context.Context, limit time.Duration, args ...string) (out []byte, err error) {
	select {
	case s.tools <- struct{}{}:
		defer func() { <-s.tools }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	limited := append([]string{fmt.Sprintf("--as=%d", toolMemory), fmt.Sprintf("--cpu=%d", max(toolProcessor, int(limit.Seconds()))), "--", "qemu-img"}, args...)
	cmd := exec.CommandContext(ctx, "prlimit", limited...) //nolint:gosec // our own paths and numbers
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err = cmd.Output()
	if err == nil {
		return out, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return nil, cause
	}
	said := strings.TrimSpace(string(out) + complaint.String())
	cause := fmt.Errorf("qemu-img %s: %w: %s", args[0], err, said)
	failure := nodeapi.ErrStorage.WithMessage("qemu-img failed: %s", said).Wrap(cause)
	switch { // qemu-img tells it in words only
	case strings.Contains(said, "No space left on device"):
		return nil, nodeapi.ErrStorageFull.Wrap(cause)
	case strings.Contains(said, `Failed to get`) && strings.Contains(said, "lock"): // a guest that has just started or just ended has it
		return nil, failure.WithRetryable(true)
	}
	return nil, failure
}

// DiskAndBacking tells the paths of a disk and of the image below it, which is empty for a disk that stands alone.
func (s *Store) DiskAndBacking(vm uuid.UUID, name string) (disk, backing string, err error) {
	path, err := s.diskPath(vm, name)
	if err != nil {
		return "", "", err
	}
	backing, err = s.backingOf(path, name)
	return path, backing, err
}

// backingOf tells the image below a qcow2 file, which people know by a name.
func (s *Store) backingOf(path, name string) (string, error) {
	h, err := readHeader(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", vm.ErrDiskLost.WithMessage("the file of the disk %q is gone from the node", name)
	}
	if err != nil {
		return "", failed("read the disk "+name, err)
	}
	// The header can be written by the guest's QEMU: nothing but a cached image may stand in it.
	if h.backing != "" && !s.isImage(h.backing) {
		return "", nodeapi.ErrStorage.WithMessage("the disk %q names a backing file that is no image of the node", name)
	}
	return h.backing, nil
}

func (s *Store) isImage(path string) bool {
	name, ok := strings.CutSuffix(filepath.Base(path), ".qcow2")
	return ok && filepath.Dir(path) == s.images && imageNames.MatchString(name)
}

// header is what we read of a qcow2 header.
// Source: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt, "Header".
type header struct {
	size    int64
	backing string
}

var errNotQcow2 = errors.New("not a qcow2 file")

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close() // read only
	var b [32]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return header{}, fmt.Errorf("%w: %w", errNotQcow2, err)
	}
	if string(b[:4]) != "QFI\xfb" {
		return header{}, errNotQcow2
	}
	offset, length := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])
	h := header{size: int64(binary.BigEndian.Uint64(b[24:]))} //nolint:gosec // a nonsense size only fails the comparison
	if offset == 0 {
		return h, nil
	}
	if length > 1023 || offset > 1<<21 { // the format's own limit, and the largest first cluster
		return header{}, fmt.Errorf("%w: backing file name out of bounds", errNotQcow2)
	}
	name := make([]byte, length)
	if _, err := f.ReadAt(name, int64(offset)); err != nil {
		return header{}, fmt.Errorf("%w: %w", errNotQcow2, err)
	}
	h.backing = string(name)
	return h, nil
}
