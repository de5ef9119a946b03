package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// folder is where below the data folder the node role keeps everything.
func folder(dataDir string) string { return filepath.Join(dataDir, "node") }

func makeFolder(dataDir string) error {
	// QEMU's user must be able to pass.
	if err := os.MkdirAll(folder(dataDir), 0o711); err != nil {
		return fmt.Errorf("make the node's folder: %w", err)
	}
	return nil
}

// LoadNodeID reads the id of the node whose data folder this is, and makes one the first time.
func LoadNodeID(dataDir string) (uuid.UUID, error) {
	if err := makeFolder(dataDir); err != nil {
		return uuid.Nil, err
	}
	path := filepath.Join(folder(dataDir), "id")
	id, err := readID(path)
	if err != nil || id != uuid.Nil {
		return id, err
	}
	if id, err = uuid.NewV7(); err != nil {
		return uuid.Nil, fmt.Errorf("make a node id: %w", err)
	}
	return id, writeID(path, id)
}

// readID answers the zero id where there is no file.
func readID(path string) (uuid.UUID, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return uuid.Nil, nil
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("read an id: %w", err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return uuid.Nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return id, nil
}

func writeID(path string, id uuid.UUID) error {
	return atomicfile.Write(path, []byte(id.String()+"\n"), 0o600)
}

// nextEpoch counts the starts of the node role.
func nextEpoch(dataDir string) (int64, error) {
	path := filepath.Join(folder(dataDir), "epoch")
	var epoch int64
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		if epoch, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return 0, fmt.Errorf("%s is damaged: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("read the epoch: %w", err)
	}
	epoch++
	return epoch, atomicfile.Write(path, []byte(strconv.FormatInt(epoch, 10)+"\n"), 0o600)
}
