package storage

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The names in the folder of what is in quarantine.
const (
	entryFile        = "entry.json"
	setAsideFolder   = "files" // what was the folder of a machine
	definitionFile   = "definition.xml"
	quarantineFolder = "quarantine"
)

type quarantineEntry struct {
	Kind nodeapi.QuarantineKind `json:"kind"`
	At   time.Time              `json:"at"`
}

func (s *Store) quarantined(id uuid.UUID) string { return filepath.Join(s.quarantine, id.String()) }

// BeginQuarantine notes that a machine or volume goes into quarantine, with the definition of its domain if it has one. What is noted already stays.
func (s *Store) BeginQuarantine(kind nodeapi.QuarantineKind, id uuid.UUID, definition string, now time.Time) error {
	dir := s.quarantined(id)
	if err := makeFolder(dir); err != nil {
		return failed("make the folder of the quarantine", err)
	}
	data, err := json.Marshal(quarantineEntry{Kind: kind, At: now.UTC().Truncate(time.Microsecond)})
	if err != nil {
		return failed("note the quarantine", err)
	}
	if err := atomicfile.Create(filepath.Join(dir, entryFile), data, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed("note the quarantine", err)
	}
	if definition != "" {
		if err := atomicfile.Write(filepath.Join(dir, definitionFile), []byte(definition), 0o600); err != nil {
			return failed("keep the definition", err)
		}
	}
	if err := atomicfile.SyncDir(s.quarantine); err != nil {
		return failed("note the quarantine", err)
	}
	return nil
}

// QuarantineFiles moves the files of what BeginQuarantine noted. It is idempotent.
func (s *Store) QuarantineFiles(kind nodeapi.QuarantineKind, id uuid.UUID) error {
	return s.moveFiles(kind, id, false)
}

// Restore moves the files back to where they were, and forgets the rest. It is idempotent.
func (s *Store) Restore(id uuid.UUID) error {
	entry, err := s.entry(id)
	if err != nil {
		return err
	}
	if err := s.moveFiles(entry.Kind, id, true); err != nil {
		return err
	}
	return s.Reap(id)
}

// moveFiles moves into the quarantine or back. What is at the other place already is never replaced.
func (s *Store) moveFiles(kind nodeapi.QuarantineKind, id uuid.UUID, back bool) error {
	pairs := [][2]string{{s.folder(id), filepath.Join(s.quarantined(id), setAsideFolder)}}
	if kind == nodeapi.QuarantineVolume {
		pairs = nil
		for _, format := range []string{qcow2, raw} {
			path, err := s.volumePath(id, format)
			if err != nil {
				return err
			}
			pairs = append(pairs, [2]string{path, filepath.Join(s.quarantined(id), filepath.Base(path))})
		}
	}
	s.imagesLock.RLock() // nothing may look for what images are used by while files are on their way
	defer s.imagesLock.RUnlock()
	for _, p := range pairs {
		from, to := p[0], p[1]
		if back {
			from, to = to, from
		}
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(to); err == nil {
			return nodeapi.ErrQuarantineOccupied
		}
		if err := os.Rename(from, to); err != nil {
			return failed("move files into or out of the quarantine", err)
		}
		if err := errors.Join(atomicfile.SyncDir(filepath.Dir(to)), atomicfile.SyncDir(filepath.Dir(from))); err != nil {
			return failed("move files into or out of the quarantine", err)
		}
	}
	return nil
}

func (s *Store) entry(id uuid.UUID) (e quarantineEntry, err error) {
	data, err := os.ReadFile(filepath.Join(s.quarantined(id), entryFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, nodeapi.ErrNotQuarantined
	case err != nil:
		return e, failed("read what is noted of the quarantine", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, failed("read what is noted of the quarantine", err)
	}
	return e, nil
}

// Reap removes what is in quarantine for good, and images that only waited for that. It is idempotent. What is noted of it goes last, so that
// what a crash leaves of it is still found.
func (s *Store) Reap(id uuid.UUID) error {
	dir := s.quarantined(id)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("empty the quarantine", err)
	}
	for _, e := range entries {
		if e.Name() == entryFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return failed("empty the quarantine", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return failed("empty the quarantine", err)
	}
	if err := atomicfile.SyncDir(s.quarantine); err != nil {
		return failed("empty the quarantine", err)
	}
	return s.sweep()
}

// Quarantined lists what is in quarantine.
func (s *Store) Quarantined() ([]nodeapi.Quarantined, error) {
	entries, err := os.ReadDir(s.quarantine)
	if err != nil {
		return nil, failed("list the quarantine", err)
	}
	var list []nodeapi.Quarantined
	for _, e := range entries {
		id, err := uuid.Parse(e.Name())
		if err != nil {
			continue
		}
		entry, err := s.entry(id)
		if errors.Is(err, nodeapi.ErrNotQuarantined) {
			continue // of a crash before it was noted, with nothing in it
		}
		if err != nil {
			return nil, err
		}
		list = append(list, nodeapi.Quarantined{ID: id, Kind: entry.Kind, At: entry.At, Bytes: allocated(s.quarantined(id))})
	}
	return list, nil
}

// allocated counts what a folder takes. What vanishes meanwhile takes nothing.
func allocated(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512 // stat(2) counts blocks of 512 bytes
			}
		}
		return nil
	})
	return bytes
}
