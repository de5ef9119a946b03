// Package journal remembers, beyond a crash, which intent a node applied last to each virtual machine and which virtual machines
// it removed. It fences commands that come late: with an older generation, or after a removal.
//
// Invariant: what Advance and Bury answered without an error is on the disk. Only the node role uses it; calls for one virtual
// machine are serialised by its caller.
package journal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// KeepTombstones is for how long a removal is remembered.
const KeepTombstones = 30 * 24 * time.Hour

// Journal is the journal of one node. Make it with Open.
type Journal struct {
	dir string

	mu      sync.Mutex // guards entries
	entries map[uuid.UUID]entry
}

// entry is the content of one file.
type entry struct {
	Generation int64 `json:"generation"` // newest that was applied
	// Removed is when the virtual machine was removed; zero while it is not.
	Removed time.Time `json:"removed,omitzero"`
}

// Open reads the journal in a folder, makes the folder where it is missing, and forgets tombstones that are too old by now.
func Open(dir string, now time.Time) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the journal's folder: %w", err)
	}
	if err := atomicfile.RemoveLeftovers(dir); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the journal's folder: %w", err)
	}
	j := &Journal{dir: dir, entries: map[uuid.UUID]entry{}}
	for _, f := range files {
		id, err := uuid.Parse(strings.TrimSuffix(f.Name(), ".json"))
		if err != nil {
			continue // not ours
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the journal of %s: %w", id, err)
		}
		var e entry
		if err := json.Unmarshal(data, &e); err != nil {
			return nil, fmt.Errorf("the journal of %s is damaged; remove the file to forget it: %w", id, err)
		}
		j.entries[id] = e
	}
	return j, j.Prune(now)
}

// Prune forgets tombstones older than KeepTombstones.
func (j *Journal) Prune(now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, e := range j.entries {
		if e.Removed.IsZero() || now.Sub(e.Removed) < KeepTombstones {
			continue
		}
		if err := os.Remove(j.path(id)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("forget the tombstone of %s: %w", id, err)
		}
		delete(j.entries, id)
	}
	return nil
}

func (j *Journal) path(vm uuid.UUID) string { return filepath.Join(j.dir, vm.String()+".json") }

// Generation tells the newest generation that was applied to a virtual machine; zero for one that was never seen.
func (j *Journal) Generation(vm uuid.UUID) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries[vm].Generation
}

// Check tells whether a command may still be applied; removal says that the command is one.
func (j *Journal) Check(vm uuid.UUID, generation int64, removal bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[vm]
	if generation < e.Generation {
		return nodeapi.ErrStaleGeneration
	}
	if !e.Removed.IsZero() && generation == e.Generation && !removal {
		return nodeapi.ErrStaleGeneration.WithMessage("the virtual machine was removed from the node by a newer request")
	}
	return nil
}

// Advance checks as Check does and records the generation.
func (j *Journal) Advance(vm uuid.UUID, generation int64, removal bool) error {
	if err := j.Check(vm, generation, removal); err != nil {
		return err
	}
	j.mu.Lock()
	e := j.entries[vm]
	_, known := j.entries[vm]
	j.mu.Unlock()
	if known && e.Generation == generation {
		return nil
	}
	return j.write(vm, entry{Generation: generation})
}

// Bury records that a virtual machine is removed. From then on only a removal, or a newer generation, passes Check.
func (j *Journal) Bury(vm uuid.UUID, generation int64, now time.Time) error {
	j.mu.Lock()
	e := j.entries[vm]
	j.mu.Unlock()
	if !e.Removed.IsZero() && e.Generation >= generation {
		return nil
	}
	return j.write(vm, entry{Generation: max(generation, e.Generation), Removed: now.UTC()})
}

// Buried tells whether a virtual machine was removed and not made again since.
func (j *Journal) Buried(vm uuid.UUID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.entries[vm].Removed.IsZero()
}

func (j *Journal) write(vm uuid.UUID, e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the journal of %s: %w", vm, err)
	}
	if err := atomicfile.Write(j.path(vm), append(data, '\n'), 0o600); err != nil {
		return nodeapi.ErrStorage.WithMessage("the node could not write its journal").WithRetryable(true).Wrap(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries[vm] = e
	return nil
}
