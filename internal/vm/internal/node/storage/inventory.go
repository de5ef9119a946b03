package storage

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/google/uuid"
)

// HasDisk tells whether a disk of a virtual machine has its file, whole or damaged.
func (s *Store) HasDisk(vm uuid.UUID, name string) (bool, error) {
	path, err := s.diskPath(vm, name)
	if err != nil {
		return false, err
	}
	switch _, err := os.Stat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, failed("look for a disk", err)
	}
}

// VolumeIDs lists the volumes that have a file, whole or damaged.
func (s *Store) VolumeIDs() ([]uuid.UUID, error) {
	entries, err := os.ReadDir(s.volumes)
	if err != nil {
		return nil, failed("list the volumes", err)
	}
	var ids []uuid.UUID
	for _, e := range entries {
		name, format, _ := strings.Cut(e.Name(), ".")
		if id, err := uuid.Parse(name); err == nil && (format == qcow2 || format == raw) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
