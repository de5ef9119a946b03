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
	qemuImg(t, "create", "-q", "-f", "vmdk", at("parent.vmdk"), "8M")
	qemuImg(t, "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", at("parent.vmdk"), at("child.vmdk"))
	qemuImg(t, "create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", at("split.vmdk"), "8M")
	sparse := read(t, at("parent.vmdk"))
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
	vhdx := read(t, at("vhdx"))
	parameters := bytes.Index(vhdx, vhdxParameters[:])
	metadata := parameters - parameters%(64<<10)
	differing := bytes.Clone(vhdx)
	differing[metadata+int(binary.LittleEndian.Uint32(vhdx[parameters+16:]))+4] |= vhdxHasParent
	replaced := func(content []byte, old, with string) []byte {
		if !bytes.Contains(content, []byte(old)) || len(old) != len(with) {
			t.Fatalf("%q cannot be replaced", old)
		}
		return bytes.ReplaceAll(content, []byte(old), []byte(with))
	}
	iso := make([]byte, 64<<10)
	copy(iso[isoVolume:], "\x01CD001")
	for name, test := range map[string]struct {
		content []byte
		want    *errs.Error
		kind    vm.ImageKind
	}{
		"backing file":                {content: read(t, at("backed")), want: vm.ErrImageRefused},
		"vmdk with a parent":          {content: read(t, at("child.vmdk")), want: vm.ErrImageRefused},
		"vmdk of several files":       {content: read(t, at("split.vmdk")), want: vm.ErrImageRefused},
		"an extent of such a vmdk":    {content: read(t, at("split-s001.vmdk")), want: vm.ErrImageRefused},
		"vmdk with a foreign extent":  {content: replaced(sparse, `SPARSE "parent.vmdk"`, `SPARSE "/etc/shadow"`), want: vm.ErrImageRefused},
		"vmdk with a flat extent":     {content: replaced(sparse, `SPARSE "parent.vmdk"`, `FLAT   "parent.vmdk"`), want: vm.ErrImageRefused},
		"vmdk of another type":        {content: replaced(sparse, "monolithicSparse", "monolithicFlatXX"), want: vm.ErrImageRefused},
		"vmdk without data":           {content: append(append(bytes.Clone(sparse[:12]), make([]byte, 8)...), sparse[20:]...), want: vm.ErrImageRefused},
		"vmdk that is cut off":        {content: sparse[:100], want: vm.ErrImageInvalid},
		"vmdk descriptor in disguise": {content: append([]byte("\n  \n# x\nversion=1\nRW 16 FLAT \"/etc/shadow\" 0\n"), make([]byte, 4096)...), want: vm.ErrImageRefused},
		"vhdx with a parent":          {content: differing, want: vm.ErrImageRefused},
		"vhdx that is cut off":        {content: vhdx[:100<<10], want: vm.ErrImageInvalid},
		"vhdx without metadata":       {content: replaced(vhdx, "metadata", "matedata"), want: vm.ErrImageInvalid},
		"a disk that is to be an iso": {content: good, want: vm.ErrImageInvalid, kind: vm.ImageISO},
		"an iso that is to be a disk": {content: iso, want: vm.ErrImageInvalid, kind: vm.ImageDisk},
		"a disk as a kernel":          {content: good, want: vm.ErrImageInvalid, kind: vm.ImageKernel},
		"a disk as an initrd":         {content: good, want: vm.ErrImageInvalid, kind: vm.ImageInitrd},
		"external data file":          {content: read(t, at("external")), want: vm.ErrImageRefused},
		"name of a data file alone":   {content: patched(int(binary.BigEndian.Uint32(good[100:])), 0x44, 0x41, 0x54, 0x41, 0, 0, 0, 4, '/', 'e', 't', 'c'), want: vm.ErrImageRefused},
		"vmdk descriptor":             {content: read(t, at("flat.vmdk")), want: vm.ErrImageRefused},
		"vdi":                         {content: read(t, at("vdi")), want: vm.ErrImageInvalid},
		"vpc":                         {content: read(t, at("vpc")), want: vm.ErrImageInvalid},
		"qed":                         {content: read(t, at("qed")), want: vm.ErrImageInvalid},
		"parallels":                   {content: read(t, at("parallels")), want: vm.ErrImageInvalid},
		"nothing":                     {content: nil, want: vm.ErrImageInvalid},
		"a few bytes":                 {content: []byte("hello"), want: vm.ErrImageInvalid},
		"a header that is cut off":    {content: good[:20], want: vm.ErrImageInvalid},
		"a v3 header that is cut off": {content: good[:80], want: vm.ErrImageInvalid},
		"an unknown version":          {content: patched(4, 0, 0, 0, 9), want: vm.ErrImageInvalid},
		"encryption":                  {content: patched(32, 0, 0, 0, 2), want: vm.ErrImageInvalid},
		"unknown features":            {content: patched(72, 0x80), want: vm.ErrImageInvalid},
		"an impossible cluster size":  {content: patched(20, 0, 0, 0, 63), want: vm.ErrImageInvalid},
		"a disk of an exbibyte":       {content: patched(24, huge...), want: vm.ErrImageInvalid},
		"a disk of no size":           {content: patched(24, 0, 0, 0, 0, 0, 0, 0, 0), want: vm.ErrImageInvalid},
		"more than is accepted":       {content: make([]byte, 17<<20), want: vm.ErrImageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, 16<<20)
			_, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(test.content), Expected{Kind: test.kind})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %s", err, test.want.Code)
			}
			empty(t, s)
		})
	}
	t.Run("a wrong checksum", func(t *testing.T) {
		s := open(t, 16<<20)
		if _, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(good), Expected{Checksum: strings.Repeat("0", 64)}); !errors.Is(err, vm.ErrImageChecksum) {
			t.Errorf("got %v", err)
		}
		empty(t, s)
	})
	t.Run("an upload that breaks off", func(t *testing.T) {
		s := open(t, 16<<20)
		broken := io.MultiReader(bytes.NewReader(good[:1000]), errorReader{})
		if _, err := s.Receive(t.Context(), uuid.New(), broken, Expected{}); !errors.Is(err, vm.ErrImageInvalid) {
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
	contents := map[string][]byte{"qcow2": read(t, qcow), "raw": raw}
	source := writeTemp(t, bytes.Repeat([]byte("not zero, and not alike "), 100_000))
	for name, args := range map[string][]string{"vmdk": {"-O", "vmdk"}, "vmdk stream": {"-O", "vmdk", "-o", "subformat=streamOptimized"}, "vhdx": {"-O", "vhdx"}} {
		converted := filepath.Join(dir, name)
		qemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), source, converted)...)
		contents[name] = read(t, converted)
	}
	for name, content := range contents {
		format, _, _ := strings.Cut(name, " ")
		t.Run(name, func(t *testing.T) {
			s, id := open(t, 1<<30), uuid.New()
			sum := sha256.Sum256(content)
			got, err := s.Receive(t.Context(), id, bytes.NewReader(content), Expected{Checksum: "sha256:" + strings.ToUpper(hex.EncodeToString(sum[:]))})
			if err != nil || got.Format != format || got.Size != int64(len(content)) || got.SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("received %+v: %v", got, err)
			}
			for range 2 { // the second time is after a crash
				if err := s.Convert(t.Context(), id, vm.ImageDisk, format); err != nil {
					t.Fatal(err)
				}
				done, err := s.Finish(t.Context(), id, vm.ImageDisk)
				if err != nil || done.Size == 0 || len(done.SHA256) != 64 || done.VirtualSizeBytes != got.VirtualSizeBytes {
					t.Fatalf("finished with %+v: %v", done, err)
				}
			}
			qemuImg(t, "compare", "-f", format, "-F", "qcow2", writeTemp(t, content), s.final(id, vm.ImageDisk))
			f, err := s.Open(id, vm.ImageDisk)
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

// What is no disk is kept as it came.
func TestImportOfMedia(t *testing.T) {
	iso := make([]byte, 64<<10)
	copy(iso[isoVolume:], "\x01CD001")
	kernel := make([]byte, 4096)
	copy(kernel[0x1fe:], "\x55\xaa\x00\x00HdrS")
	for _, test := range []struct {
		content []byte
		said    vm.ImageKind
		want    vm.ImageKind
	}{{iso, "", vm.ImageISO}, {kernel, vm.ImageKernel, vm.ImageKernel}, {append([]byte("\x1f\x8b\x08"), kernel...), vm.ImageInitrd, vm.ImageInitrd}} {
		s, id := open(t, 1<<20), uuid.New()
		got, err := s.Receive(t.Context(), id, bytes.NewReader(test.content), Expected{Kind: test.said})
		if err != nil || got.Kind != test.want {
			t.Fatalf("received %+v: %v", got, err)
		}
		for range 2 {
			if err := s.Convert(t.Context(), id, got.Kind, got.Format); err != nil {
				t.Fatal(err)
			}
			if done, err := s.Finish(t.Context(), id, got.Kind); err != nil || done.SHA256 != got.SHA256 || done.Size != int64(len(test.content)) {
				t.Fatalf("finished %+v: %v", done, err)
			}
		}
		if removed, err := s.Sweep(nil, 0); removed != 1 || err != nil {
			t.Errorf("the sweep removed %d: %v", removed, err)
		}
		empty(t, s)
	}
}

// A small file that stands for a large disk that is not empty fills no storage.
func TestConvertOfBomb(t *testing.T) {
	dir := t.TempDir()
	plain, packed := filepath.Join(dir, "plain"), filepath.Join(dir, "packed")
	if err := os.WriteFile(plain, bytes.Repeat([]byte{0xaa}, 96<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "convert", "-c", "-f", "raw", "-O", "qcow2", plain, packed)
	s, id := open(t, 4<<20), uuid.New()
	got, err := s.Receive(t.Context(), id, bytes.NewReader(read(t, packed)), Expected{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Convert(t.Context(), id, got.Kind, got.Format); !errors.Is(err, vm.ErrImageTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := s.Remove(id); err != nil {
		t.Error(err)
	}
	empty(t, s)
}

// Parts arrive at the end of what is there, one at a time, and survive the one who took them.
func TestParts(t *testing.T) {
	name := filepath.Join(t.TempDir(), "q")
	qemuImg(t, "create", "-q", "-f", "qcow2", name, "8M")
	content := read(t, name)
	size := int64(len(content))
	s, id := open(t, 1<<30), uuid.New()
	if at, err := s.Offset(id); at != 0 || err != nil {
		t.Fatalf("offset %d: %v", at, err)
	}
	broken := io.MultiReader(bytes.NewReader(content[:1000]), errorReader{})
	if _, err := s.Append(t.Context(), id, 0, size, broken); err == nil {
		t.Fatal("a part that broke off is whole")
	}
	again, err := Open(s.dir, 1<<30) // another process
	if err != nil {
		t.Fatal(err)
	}
	if at, err := again.Offset(id); at != 1000 || err != nil {
		t.Fatalf("offset %d: %v", at, err)
	}
	if _, err := again.Append(t.Context(), id, 999, size, bytes.NewReader(content[999:])); !errors.Is(err, vm.ErrImageOffset) {
		t.Errorf("got %v", err)
	}
	held, err := s.OpenFetch(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Append(t.Context(), id, 1000, size, bytes.NewReader(content[1000:])); !errors.Is(err, vm.ErrImageUploadBusy) || !again.Busy(id) {
		t.Errorf("got %v", err)
	}
	held.Close()
	if at, err := again.Append(t.Context(), id, 1000, size, bytes.NewReader(content[1000:])); at != size || err != nil || again.Busy(id) {
		t.Fatalf("%d: %v", at, err)
	}
	if _, err := again.Complete(t.Context(), id, Expected{Checksum: strings.Repeat("0", 64)}); !errors.Is(err, vm.ErrImageChecksum) {
		t.Errorf("got %v", err)
	}
	if got, err := again.Complete(t.Context(), id, Expected{}); err != nil || got.Format != "qcow2" || got.Size != size {
		t.Errorf("got %+v: %v", got, err)
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
	if _, err := s.Receive(t.Context(), id, bytes.NewReader(content), Expected{}); err != nil {
		t.Fatal(err)
	}
	err := s.Convert(t.Context(), id, vm.ImageDisk, "qcow2")
	if !errors.Is(err, vm.ErrImageInvalid) {
		t.Errorf("got %v", err)
	}
	if e := errs.From(err); strings.Contains(e.Message, s.dir) {
		t.Errorf("the message names a path of ours: %s", e.Message)
	}
	if _, err := s.Open(id, vm.ImageDisk); err == nil {
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
	if _, err := s.Receive(t.Context(), uuid.New(), bytes.NewReader(make([]byte, 4<<20)), Expected{}); !errors.Is(err, nodeapi.ErrStorageFull) {
		t.Errorf("upload: %v", err)
	}
	empty(t, s)
	id := uuid.New()
	random := make([]byte, 700<<10)
	for i := range random {
		random[i] = byte(i * i >> 3)
	}
	if _, err := s.Receive(t.Context(), id, bytes.NewReader(random), Expected{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Convert(t.Context(), id, vm.ImageDisk, "raw"); !errors.Is(err, nodeapi.ErrStorageFull) {
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
	if _, err := s.Receive(ctx, uuid.New(), bytes.NewReader(make([]byte, 1<<20)), Expected{}); !errors.Is(err, context.Canceled) {
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
		got, err := Screen(bytes.NewReader(content), int64(len(content)), "")
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
