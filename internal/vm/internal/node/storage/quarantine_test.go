package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// TestQuarantine: what is set aside comes back as it was, also after a crash at any point of the way; the image below it stays as long as it does.
func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	content, sum := image(t, "1M")
	if _, err := s.PullImage(t.Context(), nodeapi.ImagePull{SHA256: sum, SizeBytes: int64(len(content)), StreamURL: serve(t, served(content))}); err != nil {
		t.Fatal(err)
	}
	vm, volume := uuid.New(), uuid.New()
	if err := s.EnsureDisk(t.Context(), vm, nodeapi.DiskSpec{Name: "root", ImageSHA256: sum, SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureVolume(t.Context(), volume, nodeapi.VolumeSpec{Format: "raw", SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	root, raw := filepath.Join(dir, "disks", vm.String(), "root.qcow2"), filepath.Join(dir, "volumes", volume.String()+".raw")
	cached := filepath.Join(dir, "images", sum+".qcow2")
	there := func(what string, path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); os.IsNotExist(err) == want {
			t.Errorf("%s: %v", what, err)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 2 { // each step can be repeated
		for kind, id := range map[nodeapi.QuarantineKind]uuid.UUID{nodeapi.QuarantineVM: vm, nodeapi.QuarantineVolume: volume} {
			if err := s.BeginQuarantine(kind, id, "", at); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = openIn(t, dir) // a crash between the note and the move
			if err := s.QuarantineFiles(kind, id); err != nil {
				t.Fatal(err)
			}
		}
		at = at.Add(time.Hour) // what is noted first stays
	}
	there("the disk is where it was", root, false)
	there("the volume is where it was", raw, false)
	if err := s.DropImage(sum); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openIn(t, dir)
	defer func() { s.Close() }()
	there("the image below what is set aside is gone", cached, true)
	list, err := s.Quarantined()
	if err != nil || len(list) != 2 || !list[0].At.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || list[0].Bytes == 0 {
		t.Errorf("set aside are %+v, %v", list, err)
	}

	// What is at its place already is not replaced.
	if err := os.WriteFile(raw, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(volume); !errors.Is(err, nodeapi.ErrQuarantineOccupied) {
		t.Errorf("restore onto another file: %v", err)
	}
	if err := s.QuarantineFiles(nodeapi.QuarantineVolume, volume); !errors.Is(err, nodeapi.ErrQuarantineOccupied) {
		t.Errorf("a second file of the same volume: %v", err)
	}
	if err := os.Remove(raw); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uuid.UUID{vm, volume} {
		if err := s.Restore(id); err != nil {
			t.Fatal(err)
		}
		if err := s.Restore(id); !errors.Is(err, nodeapi.ErrNotQuarantined) {
			t.Errorf("restore of what is not there: %v", err)
		}
	}
	there("the disk is back", root, true)
	there("the volume is back", raw, true)

	if err := errors.Join(s.BeginQuarantine(nodeapi.QuarantineVM, vm, "<domain/>", at), s.QuarantineFiles(nodeapi.QuarantineVM, vm)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Reap(vm); err != nil {
			t.Fatal(err)
		}
	}
	there("its image only waited for that", cached, false)
	if left, err := os.ReadDir(filepath.Join(dir, "quarantine")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
