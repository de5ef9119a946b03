package storage

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node/streamdial"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The image that was used least recently makes room, and never one that something uses.
func TestCacheIsBounded(t *testing.T) {
	var evicted []int64
	s, err := Open(t.TempDir(), streamdial.Dialer{}, slog.New(slog.DiscardHandler), Cache{Bytes: 5 << 19, Evicted: func(n int64) { evicted = append(evicted, n) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	machine := uuid.New()
	name := func(c string) string { return strings.Repeat(c, 64) }
	put := func(c, ending string, age time.Duration) string {
		path := filepath.Join(s.images, name(c)+ending)
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := filepath.Join(s.images, name("a")+diskEnding)
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", base, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := s.EnsureDisk(t.Context(), machine, nodeapi.DiskSpec{Name: "root", ImageSHA256: name("a"), SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * time.Hour)
	if err := os.Chtimes(base, old, old); err != nil {
		t.Fatal(err)
	}
	disc := put("b", isoEnding, 99*time.Hour)
	if err := s.EnsureMedia(machine, name("b"), nodeapi.MediaISO); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(disc, old, old); err != nil {
		t.Fatal(err)
	}
	oldest, older, recent := put("c", diskEnding, 3*time.Hour), put("d", bootEnding, 2*time.Hour), put("e", diskEnding, time.Minute)
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	if err := s.sweep(); err != nil {
		t.Fatal(err)
	}
	if !exists(base) || !exists(disc) || !exists(recent) || exists(oldest) || exists(older) || len(evicted) != 2 {
		t.Errorf("base %t, disc %t, recent %t, oldest %t, older %t, %d evicted", exists(base), exists(disc), exists(recent), exists(oldest), exists(older), len(evicted))
	}
	if err := s.EnsureDisk(t.Context(), uuid.New(), nodeapi.DiskSpec{Name: "root", ImageSHA256: name("c"), SizeBytes: 1 << 20}); err == nil {
		t.Error("a disk stands on an image that is gone")
	}
	if err := s.Remove(machine); err != nil { // what it used may go now
		t.Fatal(err)
	}
	if exists(base) && exists(disc) || s.CacheUsage() > 5<<19 {
		t.Errorf("base %t, disc %t, %d bytes", exists(base), exists(disc), s.CacheUsage())
	}
	for _, bad := range []string{"../../x", "", name("b") + "/.."} {
		if err := s.EnsureMedia(machine, bad, nodeapi.MediaISO); err == nil {
			t.Errorf("%q is taken for an image", bad)
		}
	}
}
