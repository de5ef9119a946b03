package imagestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// An upload in parts is a file that grows. Its length is the offset: a file system tells of no byte before it has it, in this process or
// after it was killed. The lock on the file is what lets one part in at a time, whichever process takes it, and falls with the process.

// Offset tells how many bytes of an upload have arrived.
func (s *Store) Offset(id uuid.UUID) (int64, error) {
	info, err := os.Stat(s.upload(id))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, storageError("look at upload", err)
	}
	return info.Size(), nil
}

// open opens the file of an upload, alone.
func (s *Store) openUpload(id uuid.UUID) (*os.File, error) {
	f, err := os.OpenFile(s.upload(id), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, storageError("open upload file", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, vm.ErrImageUploadBusy
	}
	return f, nil
}

// Append writes a part of an upload that has size bytes in all, at an offset that must be its length. What arrives before a failure stays.
func (s *Store) Append(ctx context.Context, id uuid.UUID, offset, size int64, body io.Reader) (now int64, err error) {
	if size > s.maxBytes {
		return 0, s.tooLarge()
	}
	f, err := s.openUpload(id)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, storageError("look at upload", err)
	}
	if have != offset {
		return have, vm.ErrImageOffset.WithMessage("%d bytes have arrived, and the part begins at %d", have, offset).WithMeta("offset", strconv.FormatInt(have, 10))
	}
	n, err := io.Copy(f, &contextReader{ctx: ctx, r: io.LimitReader(body, size-have)})
	now = have + n
	if err == nil && now == size {
		var more [1]byte
		if n, _ := io.ReadFull(body, more[:]); n > 0 {
			err = vm.ErrImageTooLarge.WithMessage("the upload is longer than the %d bytes that were announced", size)
		}
	}
	if err := errors.Join(storageError("receive part of upload", err), storageError("write part of upload", f.Sync())); err != nil {
		return now, err
	}
	return now, nil
}

// Complete examines an upload in parts that has arrived whole.
func (s *Store) Complete(ctx context.Context, id uuid.UUID, want Expected) (Received, error) {
	f, err := s.openUpload(id)
	if err != nil {
		return Received{}, err
	}
	defer f.Close() // only read
	digest := sha256.New()
	size, err := io.Copy(digest, &contextReader{ctx: ctx, r: f})
	if err != nil {
		return Received{}, storageError("read upload", err)
	}
	return s.examine(f, size, digest.Sum(nil), want)
}

// Busy tells whether a part of an upload is on its way.
func (s *Store) Busy(id uuid.UUID) bool {
	f, err := os.Open(s.upload(id))
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// OpenFetch opens the file that an import writes to, at whatever length it has. The caller closes it.
func (s *Store) OpenFetch(id uuid.UUID) (*os.File, error) { return s.openUpload(id) }
