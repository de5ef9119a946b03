package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/node/streamdial"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// pull is one download that any number of callers may wait for.
type pull struct {
	waiters int
	cancel  context.CancelFunc
	linger  *time.Timer   // cancels it; runs while nobody waits
	done    chan struct{} // closed at the end, after err is set
	err     error
}

// How a download goes on after a broken connection, and when it counts as broken.
const (
	pullAttempts = 5
	pullBackOff  = 200 * time.Millisecond
	stallTimeout = 30 * time.Second
	lingerTime   = time.Minute
)

// PullImage fetches an image unless it is cached. Callers that want the same image at the same time share one download. It goes on
// for a while when none waits any more: who lost patience comes again, and would find all of it to do once more.
func (s *Store) PullImage(ctx context.Context, want nodeapi.ImagePull) (cached bool, err error) {
	path, err := s.cachePath(want.SHA256, want.Kind)
	if err != nil {
		return false, err
	}
	if s.keepCached(path, want.SHA256) {
		return true, nil
	}
	p := s.join(ctx, path, want)
	defer s.leave(want.SHA256, p)
	select {
	case <-p.done:
		return false, p.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// keepCached finds an image in the cache, and takes back that it was dropped.
func (s *Store) keepCached(path, sha256 string) bool {
	s.imagesLock.Lock()
	defer s.imagesLock.Unlock()
	if _, err := os.Stat(path); err != nil {
		return false
	}
	touch(path)
	err := os.Remove(s.droppedPath(sha256))
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

func (s *Store) join(ctx context.Context, path string, want nodeapi.ImagePull) *pull {
	s.pullsLock.Lock()
	defer s.pullsLock.Unlock()
	if p := s.pulls[want.SHA256]; p != nil && p.waiters > 0 || p != nil && p.linger.Stop() {
		p.waiters++
		return p
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(s.life, cancel)
	p := &pull{waiters: 1, cancel: cancel, done: make(chan struct{})}
	s.pulls[want.SHA256] = p
	s.running.Go(func() { // ends with the download, lingerTime after the last waiter has left, or with Close
		defer stop()
		defer cancel()
		p.err = s.download(ctx, path, want)
		s.pullsLock.Lock()
		if s.pulls[want.SHA256] == p {
			delete(s.pulls, want.SHA256)
		}
		s.pullsLock.Unlock()
		close(p.done)
	})
	return p
}

func (s *Store) leave(sha256 string, p *pull) {
	s.pullsLock.Lock()
	defer s.pullsLock.Unlock()
	if p.waiters--; p.waiters > 0 || s.pulls[sha256] != p {
		return
	}
	p.linger = time.AfterFunc(lingerTime, p.cancel)
}

// download fetches an image into a temporary file, checks it and puts it in place.
func (s *Store) download(ctx context.Context, path string, want nodeapi.ImagePull) error {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.keepCached(path, want.SHA256) { // an earlier download has ended while this one waited
		return nil
	}
	temp, err := os.CreateTemp(s.images, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return failed("make the image's file", err)
	}
	defer os.Remove(temp.Name()) // gone under this name when all went well
	defer temp.Close()           // synced before
	sum := sha256.New()
	if err := s.fetch(ctx, want, temp, sum); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return nodeapi.ErrStorage.WithMessage("the image arrived damaged: its SHA-256 is %s", got).WithRetryable(true)
	}
	if err := errors.Join(temp.Chmod(0o644), temp.Sync()); err != nil {
		return failed("make the image durable", err)
	}
	if err := s.publishImage(temp.Name(), path, want.SHA256); err != nil {
		return err
	}
	if err := s.sweep(); err != nil { // the image is there; room is made later
		s.log.Warn("the image cache could not be tidied", "error", err)
	}
	return nil
}

func (s *Store) publishImage(temp, path, sha256 string) error {
	s.imagesLock.Lock()
	defer s.imagesLock.Unlock()
	if err := os.Remove(s.droppedPath(sha256)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("take the image's mark off", err)
	}
	if err := atomicfile.Publish(temp, path); err != nil {
		return failed("put the image in place", err)
	}
	return nil
}

// fetch reads the stream to its end and goes on where it broke.
func (s *Store) fetch(ctx context.Context, want nodeapi.ImagePull, file *os.File, sum hash.Hash) error {
	var offset int64
	var err error
	for attempt := range pullAttempts {
		if attempt > 0 {
			s.log.Warn("an image download broke and goes on", "sha256", want.SHA256, "offset", offset, "error", err)
			select {
			case <-time.After(pullBackOff << attempt):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		before := offset
		offset, err = s.fetchFrom(ctx, want, file, sum, offset)
		var own *errs.Error
		var refused *streamdial.StatusError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &own): // of the storage: another attempt meets the same
			return err
		case errors.As(err, &refused) && refused.Status < 500:
			return nodeapi.ErrStorage.WithMessage("the image cannot be fetched: the controller answered %d", refused.Status).
				WithRetryable(true).Wrap(err)
		case offset < before: // begun anew
			sum.Reset()
		}
	}
	return nodeapi.ErrStorage.WithMessage("the image could not be fetched from the controller").WithRetryable(true).Wrap(err)
}

// fetchFrom makes one attempt and answers how far it came.
func (s *Store) fetchFrom(ctx context.Context, want nodeapi.ImagePull, file *os.File, sum hash.Hash, offset int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(stallTimeout, cancel)
	defer stalled.Stop()
	body, begin, err := s.dialer.Get(ctx, want.StreamURL, offset)
	if err != nil {
		return offset, err
	}
	defer body.Close() // read only
	if begin != offset {
		offset = begin
		sum.Reset()
		if err := file.Truncate(0); err != nil {
			return 0, failed("write the image", err)
		}
	}
	buf := make([]byte, 256<<10)
	for {
		n, readErr := body.Read(buf)
		if n > 0 {
			stalled.Reset(stallTimeout)
			if want.SizeBytes > 0 && offset+int64(n) > want.SizeBytes {
				return offset, nodeapi.ErrStorage.WithMessage("the image is longer than the %d bytes it should have", want.SizeBytes)
			}
			if _, err := file.WriteAt(buf[:n], offset); err != nil {
				return offset, failed("write the image", err)
			}
			_, _ = sum.Write(buf[:n]) // a hash never fails
			offset += int64(n)
		}
		switch {
		case errors.Is(readErr, io.EOF) && want.SizeBytes > 0 && offset < want.SizeBytes:
			return offset, fmt.Errorf("the stream ended at %d of %d bytes", offset, want.SizeBytes)
		case errors.Is(readErr, io.EOF):
			return offset, nil
		case readErr != nil:
			return offset, readErr
		}
	}
}
