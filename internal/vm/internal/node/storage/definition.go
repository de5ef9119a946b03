package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// KeepDefinition keeps how the hypervisor tells the definition that NovaCron gave it last, to see edits of others by.
func (s *Store) KeepDefinition(vm uuid.UUID, text string) error {
	if err := atomicfile.Write(filepath.Join(s.folder(vm), definitionFile), []byte(text), 0o600); err != nil {
		return failed("keep the definition", err)
	}
	return nil
}

// Definition is what KeepDefinition kept; empty where nothing is.
func (s *Store) Definition(vm uuid.UUID) (string, error) {
	data, err := os.ReadFile(filepath.Join(s.folder(vm), definitionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", failed("read the definition", err)
	}
	return string(data), nil
}
