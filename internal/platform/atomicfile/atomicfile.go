// Package atomicfile writes files so that a crash at any moment leaves the old content or the new one, never a part.
// Anyone may use it for small files that must survive a power cut.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPattern matches the names of temporary files that a crash may leave behind; they begin with a dot and end in ".tmp".
const TempPattern = ".*.tmp"

// Write replaces the file at path. When it returns without an error, the new content is on the disk.
func Write(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, os.Rename)
}

// Create is Write for a file that is not there yet; it fails with fs.ErrExist where it is. Of several that create it at once one does.
func Create(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, func(temp, path string) error {
		if err := os.Link(temp, path); err != nil {
			return err
		}
		return os.Remove(temp)
	})
}

// write puts the content into a new file beside path, and then in its place.
func write(path string, data []byte, mode fs.FileMode, place func(temp, path string) error) (err error) {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+name+".*.tmp")
	if err != nil {
		return fmt.Errorf("make a temporary file for %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // a second close after a good one is harmless
			_ = os.Remove(f.Name()) // what stays is removed at the next start
		}
	}()
	if _, err = f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = f.Chmod(mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", path, err)
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	if err = place(f.Name(), path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Remove removes a file and has that on the disk when it returns. A missing file is no error.
func Remove(path string) error {
	err := os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Publish renames a file that is synced already to its final name and syncs the folder.
func Publish(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes renames and removals in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	defer d.Close() // read only
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// RemoveLeftovers removes temporary files that a crash left in a folder.
func RemoveLeftovers(dir string) error {
	leftovers, err := filepath.Glob(filepath.Join(dir, TempPattern))
	if err != nil {
		return fmt.Errorf("look for leftovers in %s: %w", dir, err)
	}
	for _, path := range leftovers {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove leftover %s: %w", path, err)
		}
	}
	return nil
}
