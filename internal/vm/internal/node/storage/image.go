package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

const droppedSuffix = ".dropped"

// DropImage lets an image go: at once, or with the last disk that stands on it. It is idempotent.
func (s *Store) DropImage(sha256 string) error {
	path, err := s.imagePath(sha256)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := atomicfile.Write(s.droppedPath(sha256), nil, 0o600); err != nil {
		return failed("mark the image", err)
	}
	return s.sweep()
}

func (s *Store) droppedPath(sha256 string) string {
	return filepath.Join(s.images, sha256+droppedSuffix)
}

// sweep removes dropped images that no disk stands on any more.
func (s *Store) sweep() error {
	s.imagesLock.Lock()
	defer s.imagesLock.Unlock()
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
		image := strings.TrimSuffix(mark, droppedSuffix) + ".qcow2"
		if used[image] {
			continue
		}
		for _, path := range []string{image, mark} { // the mark last, so that a crash in between is mended by the next sweep
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return failed("remove an image", err)
			}
		}
	}
	return nil
}

// usedImages collects the images that disks stand on. A disk that cannot be read keeps every image: better too much than too little.
func (s *Store) usedImages() (map[string]bool, error) {
	disks, err := filepath.Glob(filepath.Join(s.disks, "*", "*.qcow2"))
	if err != nil {
		return nil, failed("look for disks", err)
	}
	volumes, err := filepath.Glob(filepath.Join(s.volumes, "*.qcow2"))
	if err != nil {
		return nil, failed("look for volumes", err)
	}
	used := map[string]bool{}
	for _, disk := range append(disks, volumes...) {
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
