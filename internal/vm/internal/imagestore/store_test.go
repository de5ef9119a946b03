package imagestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func open(t *testing.T, maxBytes int64) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "images"), maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// empty checks that a refused upload left nothing.
func empty(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("files are left: %v %v", entries, err)
	}
}

// Images that refer to files outside themselves, in every way that qemu-img can make, and images that are no images.
func TestReceiveRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	qemuImg(t, "create", "-q", "-f", "qcow2", at("good"), "8M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", at("good"), at("backed"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+at("data")+",data_file_raw=on", at("external"), "8M")
	qemuImg(t, "create", "-q", "-f", "vmdk", at("sparse"), "8M")
	qemuImg(t, "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", at("flat.vmdk"), "8M")
	qemuImg(t, "create", "-q", "-f", "vhdx", at("vhdx"), "8M")
	qemuImg(t, "create", "-q", "-f", "vdi", at("vdi"), "8M")
	qemuImg(t, "create", "-q", "-f", "vpc", "-o", "subformat=dynamic", at("vpc"), "8M")
	qemuImg(t, "create", "-q", "-f", "qed", at("qed"), "8M")
	qemuImg(t, "create", "-q", "-f", "parallels", at("parallels"), "8M")
	good := read(t, at("good"))
	patched := func(offset int, value ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[offset:], value)
		return c
	}
	huge := make([]byte, 8)
	binary.BigEndian.PutUint64(huge, 1<<60)
	for name, test := range map[string]struct {
		content []byte
		want    *errs.Error
	}{
		"backing file":                {read(t, at("backed")), vm.ErrImageRefused},
		"external data file":          {read(t, at("external")), vm.ErrImageRefused},
		"name of a data file alone":   {patched(int(binary.BigEndian.Uint32(good[100:])), 0x44, 0x41, 0x54, 0x41, 0, 0, 0, 4, '/', 'e', 't', 'c'), vm.ErrImageRefused},
		"vmdk":                        {read(t, at("sparse")), vm.ErrImageRefused},
		"vmdk descriptor":             {read(t, at("flat.vmdk")), vm.ErrImageRefused},
		"vhdx":                        {read(t, at("vhdx")), vm.ErrImageInvalid},
		"vdi":                         {read(t, at("vdi")), vm.ErrImageInvalid},
		"vpc":                         {read(t, at("vpc")), vm.ErrImageInvalid},
		"qed":                         {read(t, at("qed")), vm.ErrImageInvalid},
		"parallels":                   {read(t, at("parallels")), vm.ErrImageInvalid},
		"nothing":                     {nil, vm.ErrImageInvalid},
		"a few bytes":                 {[]byte("hello"), vm.ErrImageInvalid},
		"a header that is cut off":    {good[:20], vm.ErrImageInvalid},
		"a v3 header that is cut off": {good[:80], vm.ErrImageInvalid},
		"an unknown version":          {patched(4, 0, 0, 0, 9), vm.ErrImageInvalid},
		"encryption":                  {patched(32, 0, 0, 0, 2), vm.ErrImageInvalid},
		"unknown features":            {patched(72, 0x80), vm.ErrImageInvalid},
		"an impossible cluster size":  {patched(20, 0, 0, 0, 63), vm.ErrImageInvalid},
		"a disk of an exbibyte":       {patched(24, huge...), vm.ErrImageInvalid},
		"a disk of no size":           {patched(24, 0, 0, 0, 0, 0, 0, 0, 0), vm.ErrImageInvalid},
		"more than is accepted":       {make([]byte, 17<<20), vm.ErrImageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, 16<<20)
			_, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(test.content), "")
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %s", err, test.want.Code)
			}
			empty(t, s)
		})
	}
	t.Run("a wrong checksum", func(t *testing.T) {
		s := open(t, 16<<20)
		if _, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(good), strings.Repeat("0", 64)); !errors.Is(err, vm.ErrImageChecksum) {
			t.Errorf("got %v", err)
		}
		empty(t, s)
	})
	t.Run("an upload that breaks off", func(t *testing.T) {
		s := open(t, 16<<20)
		broken := io.MultiReader(bytes.NewReader(good[:1000]), errorReader{})
		if _, err := s.Receive(t.Context(), uuid.New(), broken, ""); !errors.Is(err, vm.ErrImageInvalid) {
			t.Errorf("got %v", err)
		}
		empty(t, s)
	})
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestImport(t *testing.T) {
	dir := t.TempDir()
	qcow := filepath.Join(dir, "q")
	qemuImg(t, "create", "-q", "-f", "qcow2", qcow, "8M")
	raw := make([]byte, 1<<20)
	copy(raw, "a boot sector, say")
	for format, content := range map[string][]byte{"qcow2": read(t, qcow), "raw": raw} {
		t.Run(format, func(t *testing.T) {
			s, id := open(t, 1<<30), uuid.New()
			sum := sha256.Sum256(content)
			got, err := s.Receive(t.Context(), id, bytes.NewReader(content), "sha256:"+strings.ToUpper(hex.EncodeToString(sum[:])))
			if err != nil || got.Format != format || got.Size != int64(len(content)) || got.SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("received %+v: %v", got, err)
			}
			for range 2 { // the second time is after a crash
				if err := s.Convert(t.Context(), id, format); err != nil {
					t.Fatal(err)
				}
				stored, size, err := s.Finish(t.Context(), id)
				if err != nil || size == 0 || len(stored) != 64 {
					t.Fatalf("finished with %s, %d: %v", stored, size, err)
				}
			}
			qemuImg(t, "compare", "-f", format, "-F", "qcow2", writeTemp(t, content), s.final(id))
			f, err := s.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if removed, err := s.Sweep(map[uuid.UUID]bool{id: true}, 0); removed != 0 || err != nil {
				t.Errorf("the sweep removed %d of what is known: %v", removed, err)
			}
			if removed, err := s.Sweep(nil, time.Hour); removed != 0 || err != nil {
				t.Errorf("the sweep removed %d of what is young: %v", removed, err)
			}
			if removed, err := s.Sweep(nil, 0); removed != 1 || err != nil {
				t.Errorf("the sweep removed %d, want the image: %v", removed, err)
			}
			if err := errors.Join(s.Remove(id), s.Remove(id)); err != nil {
				t.Error(err)
			}
			empty(t, s)
		})
	}
}

func writeTemp(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// An image whose header is fine and whose body is not.
func TestConvertOfDamagedImage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "q")
	qemuImg(t, "create", "-q", "-f", "qcow2", name, "8M")
	content := read(t, name)
	binary.BigEndian.PutUint32(content[36:], 0) // no L1 table for a disk of 8 MiB
	s, id := open(t, 1<<30), uuid.New()
	if _, err := s.Receive(t.Context(), id, bytes.NewReader(content), ""); err != nil {
		t.Fatal(err)
	}
	err := s.Convert(t.Context(), id, "qcow2")
	if !errors.Is(err, vm.ErrImageInvalid) {
		t.Errorf("got %v", err)
	}
	if e := errs.From(err); strings.Contains(e.Message, s.dir) {
		t.Errorf("the message names a path of ours: %s", e.Message)
	}
	if _, err := s.Open(id); err == nil {
		t.Error("a damaged image is ready")
	}
}

// A full disk fails the upload with its cause and leaves nothing.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	s, err := Open(filepath.Join(dir, "images"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(make([]byte, 4<<20)), ""); !errors.Is(err, nodeapi.ErrStorageFull) {
		t.Errorf("upload: %v", err)
	}
	empty(t, s)
	id := uuid.New()
	random := make([]byte, 700<<10)
	for i := range random {
		random[i] = byte(i * i >> 3)
	}
	if _, err := s.Receive(t.Context(), id, bytes.NewReader(random), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Convert(t.Context(), id, "raw"); !errors.Is(err, nodeapi.ErrStorageFull) {
		t.Errorf("conversion: %v", err)
	}
	if err := s.Remove(id); err != nil {
		t.Error(err)
	}
	empty(t, s)
}

func TestCanceledUpload(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t, 1<<30)
	if _, err := s.Receive(ctx, uuid.New(), bytes.NewReader(make([]byte, 1<<20)), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	empty(t, s)
}

// No header makes the screening panic or accept a reference to another file.
func FuzzScreen(f *testing.F) {
	header := make([]byte, 512)
	copy(header, "QFI\xfb\x00\x00\x00\x03")
	f.Add(header)
	f.Add([]byte("KDMV"))
	f.Add([]byte("QFI\xfb\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := Screen(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		if got.VirtualSizeBytes <= 0 || got.VirtualSizeBytes > maxVirtualSize || got.VirtualSizeBytes%512 != 0 {
			t.Errorf("virtual size %d", got.VirtualSizeBytes)
		}
		if got.Format == "qcow2" && (binary.BigEndian.Uint64(content[8:]) != 0 || binary.BigEndian.Uint32(content[16:]) != 0) {
			t.Error("an image with a backing file is accepted")
		}
	})
}
