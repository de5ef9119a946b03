// Package imagestore keeps the files behind images on the control host: it receives uploads, screens them before any tool opens
// them, converts them to qcow2 under limits, and opens them for the nodes that fetch them.
//
// Every file is named by the id of its image: upload-<id> while it is raw material, <id>.qcow2 once it is ready. A file is
// complete when it has its last name; everything else may be removed at any time.
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
func (s *Store) final(id uuid.UUID) string  { return filepath.Join(s.dir, id.String()+".qcow2") }

// Received is an upload that has arrived whole and passed the screening.
type Received struct {
	Screened
	SHA256 string
	Size   int64
}

// Receive writes the bytes of an upload to disk and screens them. A checksum that is not empty must match. Nothing is left
// behind after a failure.
func (s *Store) Receive(ctx context.Context, id uuid.UUID, body io.Reader, checksum string) (_ Received, err error) {
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
		return Received{}, vm.ErrImageTooLarge.WithMessage("the upload is larger than the %d bytes that are accepted", s.maxBytes)
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	if want := strings.ToLower(strings.TrimPrefix(checksum, "sha256:")); want != "" && want != sum {
		return Received{}, vm.ErrImageChecksum.WithMessage("the upload's sha256 is %s, not %s", sum, want)
	}
	screened, err := Screen(f, size)
	if err != nil {
		return Received{}, err
	}
	if err := f.Sync(); err != nil {
		return Received{}, storageError("write upload", err)
	}
	return Received{Screened: screened, SHA256: sum, Size: size}, nil
}

// convertLimits bounds qemu-img: one hour of CPU time, 2 GiB of address space.
var convertLimits = []string{"--cpu=3600", "--as=2147483648"}

// Convert makes the qcow2 file of a received upload. It may be called again after a crash at any moment.
func (s *Store) Convert(ctx context.Context, id uuid.UUID, format string) error {
	if _, err := os.Stat(s.final(id)); err == nil {
		return nil
	}
	temp := s.final(id) + ".tmp"
	defer os.Remove(temp) // gone already after the rename
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	args := append(append([]string{}, convertLimits...), "qemu-img", "convert", "-f", format, "-O", "qcow2", "-o", "compat=1.1", s.upload(id), temp)
	cmd := exec.CommandContext(ctx, "prlimit", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return convertError(ctx, out, err)
	}
	if err := os.Chmod(temp, 0o644); err != nil {
		return storageError("make image readable", err)
	}
	if err := syncFile(temp); err != nil {
		return storageError("write image", err)
	}
	if err := os.Rename(temp, s.final(id)); err != nil {
		return storageError("name image", err)
	}
	return storageError("write image folder", syncFile(s.dir))
}

func convertError(ctx context.Context, out []byte, err error) error {
	text := strings.TrimSpace(string(out))
	switch {
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

// Finish removes the upload and answers the checksum and size of the ready file.
func (s *Store) Finish(ctx context.Context, id uuid.UUID) (sum string, size int64, err error) {
	f, err := os.Open(s.final(id))
	if err != nil {
		return "", 0, storageError("open image", err)
	}
	defer f.Close()
	digest := sha256.New()
	size, err = io.Copy(digest, &contextReader{ctx: ctx, r: f})
	if err != nil {
		return "", 0, storageError("read image", err)
	}
	if err := os.Remove(s.upload(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", 0, storageError("remove upload", err)
	}
	return hex.EncodeToString(digest.Sum(nil)), size, nil
}

// Open opens a ready image for reading.
func (s *Store) Open(id uuid.UUID) (*os.File, error) {
	f, err := os.Open(s.final(id))
	if err != nil {
		return nil, storageError("open image", err)
	}
	return f, nil
}

// Remove removes every file of an image. Absent ones are fine.
func (s *Store) Remove(id uuid.UUID) error {
	var failed error
	for _, name := range []string{s.upload(id), s.final(id), s.final(id) + ".tmp"} {
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
		name := strings.TrimPrefix(entry.Name(), "upload-")
		id, err := uuid.Parse(strings.TrimSuffix(strings.TrimSuffix(name, ".tmp"), ".qcow2"))
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
