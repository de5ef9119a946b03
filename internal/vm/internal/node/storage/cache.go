package storage

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

const (
	// evictGrace is how long an image stays that was asked for and that nothing uses: the disk that it was fetched for may be about to be made.
	evictGrace = 15 * time.Minute
	evictEvery = time.Minute
)

// touch notes that an image was used. Its content never changes, so the time of its last change is free for that; the time of the last
// access is not kept on many hosts.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // at worst it makes room too early, and is fetched again
}

// keepBound looks at the cache from time to time, because images become old without anything happening.
func (s *Store) keepBound() {
	if s.cacheBytes <= 0 {
		return
	}
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
			if err := s.sweep(); err != nil {
				s.log.Warn("the image cache could not be tidied", "error", err)
			}
		}
	}
}

type cached struct {
	path  string
	bytes int64
	used  time.Time
	held  bool // a virtual machine has it under a second name
}

// cache lists the images in the cache.
func (s *Store) cache() ([]cached, error) {
	entries, err := os.ReadDir(s.images)
	if err != nil {
		return nil, failed("list the image cache", err)
	}
	var list []cached
	for _, e := range entries {
		ending := filepath.Ext(e.Name())
		if !slices.Contains([]string{diskEnding, isoEnding, bootEnding}, ending) || !imageNames.MatchString(strings.TrimSuffix(e.Name(), ending)) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, failed("list the image cache", err)
		}
		c := cached{path: filepath.Join(s.images, e.Name()), bytes: info.Size(), used: info.ModTime()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			c.bytes, c.held = st.Blocks*512, st.Nlink > 1
		}
		list = append(list, c)
	}
	return list, nil
}

// CacheUsage tells what the images in the cache take.
func (s *Store) CacheUsage() int64 {
	list, err := s.cache()
	if err != nil {
		return 0
	}
	var bytes int64
	for _, c := range list {
		bytes += c.bytes
	}
	return bytes
}

// evict removes the images whose last use is longest ago until the cache is within its bound: never one that a disk stands on, that a virtual
// machine has, or that was asked for a moment ago. One that is being fetched has no name yet. The caller holds imagesLock.
func (s *Store) evict(now time.Time) error {
	if s.cacheBytes <= 0 {
		return nil
	}
	list, err := s.cache()
	if err != nil {
		return err
	}
	var total int64
	for _, c := range list {
		total += c.bytes
	}
	if total <= s.cacheBytes {
		return nil
	}
	used, err := s.usedImages()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b cached) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for _, c := range list {
		if total <= s.cacheBytes {
			break
		}
		if c.held || used[c.path] || now.Sub(c.used) < evictGrace {
			continue
		}
		if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("remove an image", err)
		}
		total -= c.bytes
		s.log.Info("an image made room in the cache", "image", filepath.Base(c.path), "bytes", c.bytes, "last_used", c.used)
		if s.evicted != nil {
			s.evicted(c.bytes)
		}
	}
	return nil
}

const mediaPrefix = "media-"

// MediaPath is where a virtual machine has a disc (MediaISO), kernel or initrd (MediaBoot).
func (s *Store) MediaPath(vm uuid.UUID, sha256, kind string) (string, error) {
	path, err := s.mediaPath(vm, sha256, kind)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", nodeapi.ErrImageMissing.Wrap(err)
	}
	return path, nil
}

func (s *Store) mediaPath(vm uuid.UUID, sha256, kind string) (string, error) {
	image, err := s.cachePath(sha256, kind)
	if err != nil || kind == "" {
		return "", errors.Join(err, nodeapi.ErrInvalidCommand)
	}
	return filepath.Join(s.folder(vm), mediaPrefix+filepath.Base(image)), nil
}

// EnsureMedia gives a virtual machine a cached image, so that it has it as long as it wants, whatever becomes of the cache: of a disc a second
// name, since discs are large and nobody but us may write them; of a kernel or initrd a copy, because libvirt hands those to the user of the
// guest's QEMU, which must not get to write what other guests boot.
func (s *Store) EnsureMedia(vm uuid.UUID, sha256, kind string) error {
	path, err := s.mediaPath(vm, sha256, kind)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	image, err := s.cachePath(sha256, kind)
	if err != nil {
		return err
	}
	if err := makeFolder(s.folder(vm)); err != nil {
		return failed("make the folder", err)
	}
	s.imagesLock.RLock()
	defer s.imagesLock.RUnlock()
	give := os.Link
	if kind == nodeapi.MediaBoot {
		give = copyFile
	}
	switch err := give(image, path); {
	case errors.Is(err, fs.ErrNotExist):
		return nodeapi.ErrImageMissing
	case err != nil && !errors.Is(err, fs.ErrExist):
		return failed("give the virtual machine its image", err)
	}
	touch(image)
	if err := errors.Join(atomicfile.SyncDir(s.folder(vm)), atomicfile.SyncDir(s.disks)); err != nil {
		return failed("give the virtual machine its image", err)
	}
	return nil
}

// copyFile makes a durable copy that is whole when it has its name.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close() // read only
	temp, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone under this name when all went well
	defer temp.Close()           // synced before
	if _, err := io.Copy(temp, source); err != nil {
		return err
	}
	if err := errors.Join(temp.Chmod(0o644), temp.Sync()); err != nil {
		return err
	}
	return atomicfile.Publish(temp.Name(), to)
}

// KeepMedia takes all but these paths from a virtual machine, unless it has snapshots, which may bring a disc back.
func (s *Store) KeepMedia(vm uuid.UUID, paths []string) error {
	have, err := filepath.Glob(filepath.Join(s.folder(vm), mediaPrefix+"*"))
	if err != nil || len(have) == 0 {
		return err
	}
	if snapshots, err := os.ReadDir(filepath.Join(s.folder(vm), snapshotsFolder)); err == nil && len(snapshots) > 0 {
		return nil
	}
	for _, path := range have {
		if slices.Contains(paths, path) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("take an image from the virtual machine", err)
		}
	}
	return nil
}
