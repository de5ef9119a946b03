package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

const droppedSuffix = ".dropped"

// DropImage lets an image go: at once, or with the last disk that stands on it. It is idempotent.
func (s *Store) DropImage(sha256 string) error {
	if _, err := s.imagePath(sha256); err != nil {
		return err
	}
	if have, err := filepath.Glob(filepath.Join(s.images, sha256+".*")); err != nil || len(have) == 0 {
		return err
	}
	if err := atomicfile.Write(s.droppedPath(sha256), nil, 0o600); err != nil {
		return failed("mark the image", err)
	}
	return s.sweep()
}

func (s *Store) droppedPath(sha256 string) string {
	return filepath.Join(s.images, sha256+droppedSuffix)
}

// sweep removes dropped images that no disk stands on any more, and makes the cache as small as it should be.
func (s *Store) sweep() error {
	s.imagesLock.Lock()
	defer s.imagesLock.Unlock()
	return errors.Join(s.removeDropped(), s.evict(time.Now()))
}

func (s *Store) removeDropped() error {
	marks, err := filepath.Glob(filepath.Join(s.images, "*"+droppedSuffix))
	if err != nil {
		return failed("look for dropped images", err)
	}
	if len(marks) == 0 {
		return nil
	}
	used, err := s.usedImages()
	if err != nil {
		return err
	}
	for _, mark := range marks {
		image := strings.TrimSuffix(mark, droppedSuffix)
		if used[image+diskEnding] {
			continue
		}
		for _, path := range []string{image + diskEnding, image + isoEnding, image + bootEnding, mark} { // the mark last, so that a crash in between is mended by the next sweep
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return failed("remove an image", err)
			}
		}
	}
	return nil
}

// usedImages collects the images that disks stand on. A disk that cannot be read keeps every image: better too much than too little.
func (s *Store) usedImages() (map[string]bool, error) {
	var disks []string
	for _, pattern := range []string{
		filepath.Join(s.disks, "*", "*.qcow2"), filepath.Join(s.volumes, "*.qcow2"),
		filepath.Join(s.quarantine, "*", "*.qcow2"), filepath.Join(s.quarantine, "*", setAsideFolder, "*.qcow2"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, failed("look for disks", err)
		}
		disks = append(disks, found...)
	}
	used := map[string]bool{}
	for _, disk := range disks {
		h, err := readHeader(disk)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			return nil, failed("read the header of a disk", err)
		case h.backing != "":
			used[h.backing] = true
		}
	}
	return used, nil
}
