package storage_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// A guest that writes without an end takes a bounded part of the disk; whoever reads finds the end, and every line where it was.
func TestConsoleLogsAreCut(t *testing.T) {
	dir, vm := t.TempDir(), uuid.New()
	s := openIn(t, dir)
	path := s.ConsolePath(vm)
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		t.Fatal(err)
	}
	s.Close()
	guest, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // as QEMU has it open
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	var all bytes.Buffer
	line := func(n int) []byte { return fmt.Appendf(nil, "line %07d of what the guest wrote\n", n) }
	for n := range 200_000 {
		all.Write(line(n))
	}
	if _, err := guest.Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir)
	defer s.Close()
	taken := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	tick, late := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for taken() > 2<<20 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the log takes %d bytes still", taken())
		}
	}
	if _, err := guest.Write(line(200_000)); err != nil {
		t.Fatal(err)
	}
	all.Write(line(200_000))
	for _, offset := range []int64{0, 1000, -100, int64(all.Len()) - 5000} {
		c, err := s.ReadConsole(vm, nodeapi.ConsoleRead{Offset: offset, MaxBytes: 4000})
		if err != nil || len(c.Data) == 0 || c.Size != int64(all.Len()) || !bytes.Equal(c.Data, all.Bytes()[c.Offset:c.Offset+int64(len(c.Data))]) {
			t.Errorf("from %d: %d bytes at %d of %d: %v", offset, len(c.Data), c.Offset, c.Size, err)
		}
	}
	if c, err := s.ReadConsole(vm, nodeapi.ConsoleRead{}); err != nil || c.Offset == 0 || c.Size-c.Offset < 1<<20 {
		t.Errorf("kept from %d of %d: %v", c.Offset, c.Size, err)
	}
}
