// Package imagestore keeps the files behind images on the control host: it receives uploads, screens them before any tool opens
// them, converts them to qcow2 under limits, and opens them for the nodes that fetch them.
//
// Every file is named by the id of its image: upload-<id> while it is raw material, <id>.qcow2, <id>.iso or <id>.boot once it is ready. A
// file is complete when it has its last name; raw material that no image waits for may be removed at any time.
package imagestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Store is a folder of images. It is safe for concurrent use.
type Store struct {
	dir      string
	maxBytes int64
}

// Open makes the folder if need be. maxBytes is the most an upload may have.
func Open(dir string, maxBytes int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make image folder: %w", err)
	}
	return &Store{dir: dir, maxBytes: maxBytes}, nil
}

func (s *Store) upload(id uuid.UUID) string { return filepath.Join(s.dir, "upload-"+id.String()) }

// endings are those of the names of ready files.
func endings() map[vm.ImageKind]string {
	return map[vm.ImageKind]string{vm.ImageDisk: ".qcow2", vm.ImageISO: ".iso", vm.ImageKernel: ".boot", vm.ImageInitrd: ".boot"}
}

func (s *Store) final(id uuid.UUID, kind vm.ImageKind) string {
	return filepath.Join(s.dir, id.String()+endings()[kind])
}

// Received is an upload that has arrived whole and passed the screening.
type Received struct {
	Screened
	SHA256 string
	Size   int64
}

// Expected is what the sender says of an upload. Empty parts say nothing.
type Expected struct {
	Kind     vm.ImageKind
	Format   string
	Checksum string // "sha256:<hex>" or the digits alone
}

// Receive writes the bytes of an upload to disk and screens them. What the sender expects must hold. Nothing is left behind after a
// failure.
func (s *Store) Receive(ctx context.Context, id uuid.UUID, body io.Reader, want Expected) (_ Received, err error) {
	f, err := os.OpenFile(s.upload(id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return Received{}, storageError("create upload file", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name()) // the sweep removes what cannot be removed now
		}
	}()
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, digest), &contextReader{ctx: ctx, r: io.LimitReader(body, s.maxBytes+1)})
	if err != nil {
		return Received{}, storageError("receive upload", err)
	}
	if size > s.maxBytes {
		return Received{}, s.tooLarge()
	}
	received, err := s.examine(f, size, digest.Sum(nil), want)
	if err != nil {
		return Received{}, err
	}
	if err := f.Sync(); err != nil {
		return Received{}, storageError("write upload", err)
	}
	return received, nil
}

func (s *Store) tooLarge() error {
	return vm.ErrImageTooLarge.WithMessage("the upload is larger than the %d bytes that are accepted", s.maxBytes)
}

// examine holds a file that has arrived whole against what was said of it.
func (s *Store) examine(f io.ReaderAt, size int64, digest []byte, want Expected) (Received, error) {
	sum := hex.EncodeToString(digest)
	if said := strings.ToLower(strings.TrimPrefix(want.Checksum, "sha256:")); said != "" && said != sum {
		return Received{}, vm.ErrImageChecksum.WithMessage("the upload's sha256 is %s, not %s", sum, said)
	}
	screened, err := Screen(f, size, want.Kind)
	if err != nil {
		return Received{}, err
	}
	if want.Format != "" && want.Format != screened.Format {
		return Received{}, vm.ErrImageInvalid.WithMessage("the upload is said to be %s, but its header says %s", want.Format, screened.Format)
	}
	return Received{Screened: screened, SHA256: sum, Size: size}, nil
}

// outputSlack is what a converted image may have beyond the largest upload: the tables of its format.
const outputSlack = 64 << 20

// Convert makes the ready file of a received upload: qcow2 of whatever a disk is in, everything else as it is. It may be called again after
// a crash at any moment. qemu-img gets an hour of CPU time and 2 GiB of address space, and writes no more than the largest upload may have,
// because a few bytes of a hostile image can stand for a disk of terabytes that are not empty.
func (s *Store) Convert(ctx context.Context, id uuid.UUID, kind vm.ImageKind, format string) error {
	if _, err := os.Stat(s.final(id, kind)); err == nil {
		return nil
	}
	ready := s.upload(id)
	if kind == vm.ImageDisk {
		ready = s.final(id, kind) + ".tmp"
		defer os.Remove(ready) // gone already after the rename
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		cmd := exec.CommandContext(ctx, "prlimit", "--cpu=3600", "--as=2147483648", "--core=0", fmt.Sprintf("--fsize=%d", s.maxBytes+outputSlack),
			"qemu-img", "convert", "-f", format, "-O", "qcow2", "-o", "compat=1.1", s.upload(id), ready)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			return s.convertError(ctx, out, err)
		}
	}
	if err := os.Chmod(ready, 0o644); err != nil {
		return storageError("make image readable", err)
	}
	if err := syncFile(ready); err != nil {
		return storageError("write image", err)
	}
	if err := os.Rename(ready, s.final(id, kind)); err != nil {
		return storageError("name image", err)
	}
	return storageError("write image folder", syncFile(s.dir))
}

func (s *Store) convertError(ctx context.Context, out []byte, err error) error {
	text := strings.TrimSpace(string(out))
	var exit *exec.ExitError
	switch {
	case strings.Contains(text, "File too large"), errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGXFSZ:
		return vm.ErrImageTooLarge.WithMessage("the image unpacks to more than the %d bytes that are accepted", s.maxBytes).Wrap(err)
	case ctx.Err() != nil:
		return fmt.Errorf("convert image: %w", ctx.Err())
	case strings.Contains(text, "No space left"):
		return nodeapi.ErrStorageFull.Wrap(err)
	case errors.Is(err, exec.ErrNotFound):
		return nodeapi.ErrStorage.WithMessage("qemu-img or prlimit is not installed").WithAction("Install the packages qemu-utils and util-linux.").Wrap(err)
	default: // qemu-img names files of ours in its text, so that stays in the log
		return vm.ErrImageInvalid.WithMessage("the image cannot be read: it is damaged").Wrap(fmt.Errorf("%w: %s", err, text))
	}
}

// Finished is what a ready file is.
type Finished struct {
	SHA256           string
	Size             int64
	VirtualSizeBytes int64
}

// Finish removes the upload and tells what the ready file is.
func (s *Store) Finish(ctx context.Context, id uuid.UUID, kind vm.ImageKind) (done Finished, err error) {
	f, err := os.Open(s.final(id, kind))
	if err != nil {
		return done, storageError("open image", err)
	}
	defer f.Close()
	digest := sha256.New()
	if done.Size, err = io.Copy(digest, &contextReader{ctx: ctx, r: f}); err != nil {
		return done, storageError("read image", err)
	}
	done.SHA256, done.VirtualSizeBytes = hex.EncodeToString(digest.Sum(nil)), (done.Size+511)&^511
	if kind == vm.ImageDisk { // what the tool made of it counts, not what the upload's header promised
		made, err := screen(f, done.Size, kind)
		if err != nil {
			return done, err
		}
		done.VirtualSizeBytes = made.VirtualSizeBytes
	}
	if err := os.Remove(s.upload(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return done, storageError("remove upload", err)
	}
	return done, nil
}

// Open opens a ready image for reading.
func (s *Store) Open(id uuid.UUID, kind vm.ImageKind) (*os.File, error) {
	f, err := os.Open(s.final(id, kind))
	if err != nil {
		return nil, storageError("open image", err)
	}
	return f, nil
}

// Remove removes every file of an image. Absent ones are fine.
func (s *Store) Remove(id uuid.UUID) error {
	var failed error
	disk := s.final(id, vm.ImageDisk)
	for _, name := range []string{s.upload(id), disk, disk + ".tmp", s.final(id, vm.ImageISO), s.final(id, vm.ImageKernel)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, storageError("remove image", err))
		}
	}
	return failed
}

// Sweep removes the files of images that known does not have, and tells how many. Files younger than grace stay: their row may be
// on its way.
func (s *Store) Sweep(known map[uuid.UUID]bool, grace time.Duration) (removed int, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, storageError("list images", err)
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(strings.TrimPrefix(entry.Name(), "upload-"), ".")
		id, err := uuid.Parse(name)
		if err != nil || known[id] {
			continue
		}
		if info, err := entry.Info(); err != nil || time.Since(info.ModTime()) < grace {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, entry.Name())); err != nil {
			return removed, storageError("remove leftover image", err)
		}
		removed++
	}
	return removed, nil
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// storageError names what the file system said. A connection that broke while an upload arrived is the client's doing.
func storageError(doing string, err error) error {
	var known *errs.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return nodeapi.ErrStorageFull.WithMessage("the storage of the control host is full").Wrap(fmt.Errorf("%s: %w", doing, err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return vm.ErrImageInvalid.WithMessage("the upload ended before all its bytes had arrived").Wrap(err)
	default:
		return nodeapi.ErrStorage.Wrap(fmt.Errorf("%s: %w", doing, err))
	}
}

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
