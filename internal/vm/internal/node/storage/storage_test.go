package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/novacron/novacron/internal/vm/internal/node/storage"
	"github.com/novacron/novacron/internal/vm/internal/node/streamdial"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func openIn(t *testing.T, dir string) *storage.Store {
	t.Helper()
	s, err := storage.Open(dir, streamdial.Dialer{}, slog.New(slog.NewTextHandler(t.Output(), nil)), storage.Cache{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// image makes a real qcow2 image and answers its content and name.
func image(t *testing.T, size string) (content []byte, sum string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, size).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, sumOf(content)
}

func sumOf(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// serve serves content over HTTP with ranges, on a unix socket, and answers the URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nv") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	srv.Start()
	t.Cleanup(srv.Close)
	return "unix:" + filepath.Join(dir, "s") + ":/internal/v1/streams/ticket"
}

func served(content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "image", time.Time{}, bytes.NewReader(content))
	})
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDiskLifecycle(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	content, sum := image(t, "8M")
	if cached, err := s.PullImage(t.Context(), nodeapi.ImagePull{SHA256: sum, SizeBytes: int64(len(content)), StreamURL: serve(t, served(content))}); cached || err != nil {
		t.Fatalf("pull: %v, %v", cached, err)
	}
	if cached, err := s.PullImage(t.Context(), nodeapi.ImagePull{SHA256: sum, StreamURL: "unix:/nowhere:/"}); !cached || err != nil {
		t.Fatalf("second pull: %v, %v", cached, err)
	}
	vm := uuid.New()
	spec := nodeapi.DiskSpec{Name: "root", ImageSHA256: sum, SizeBytes: 64 << 20}
	if err := s.EnsureDisk(t.Context(), vm, spec); err != nil {
		t.Fatal(err)
	}
	path, backing, err := s.DiskAndBacking(vm, "root")
	if err != nil || backing != filepath.Join(dir, "images", sum+".qcow2") {
		t.Fatalf("disk %s over %s, %v", path, backing, err)
	}
	before, _ := os.Stat(path)
	if err := s.EnsureDisk(t.Context(), vm, spec); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(path)
	if !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
		t.Error("a disk was made over an existing one")
	}
	for _, bad := range []nodeapi.DiskSpec{
		{Name: "root", ImageSHA256: sum, SizeBytes: 32 << 20},
		{Name: "root", SizeBytes: 64 << 20},
		{Name: "../root", SizeBytes: 1 << 20},
		{Name: "small", ImageSHA256: sum, SizeBytes: 1 << 20},
		{Name: "none", SizeBytes: 0},
		{Name: "unknown", ImageSHA256: sumOf([]byte("x")), SizeBytes: 64 << 20},
		{Name: "odd", ImageSHA256: "../../etc/passwd", SizeBytes: 64 << 20},
	} {
		if err := s.EnsureDisk(t.Context(), vm, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if out, err := exec.Command("qemu-img", "check", path).CombinedOutput(); err != nil {
		t.Errorf("qemu-img check: %v: %s", err, out)
	}

	// A dropped image stays until its last disk goes, also beyond a restart.
	if err := s.DropImage(sum); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir)
	if _, err := os.Stat(backing); err != nil {
		t.Fatalf("the image went from under its disk: %v", err)
	}
	for range 2 {
		if err := s.Remove(vm); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestCrashLeavesNoHalfDisk(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	vm := uuid.New()
	if err := s.EnsureDisk(t.Context(), vm, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "disks", vm.String())
	for _, p := range []string{filepath.Join(folder, ".data.qcow2.123.tmp"), filepath.Join(dir, "images", ".ab.qcow2.9.tmp")} {
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openIn(t, dir)
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("after the restart: %q", left)
	}
	// A damaged disk is somebody's data: it is neither used nor replaced.
	path := filepath.Join(folder, "root.qcow2")
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureDisk(t.Context(), vm, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20}); !errors.Is(err, nodeapi.ErrStorage) {
		t.Errorf("ensure over a damaged disk: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "damaged" {
		t.Error("the damaged disk was replaced")
	}
}

func TestCancelledDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.EnsureDisk(ctx, uuid.New(), nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("ensure: %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestPullResumes cuts every answer short until the image is through.
func TestPullResumes(t *testing.T) {
	content := make([]byte, 900<<10)
	for i := range content {
		content[i] = byte(rand.IntN(256))
	}
	var requests, ranged atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("Range") != "" {
			ranged.Add(1)
		}
		http.ServeContent(&cut{ResponseWriter: w, left: 400 << 10}, r, "image", time.Time{}, bytes.NewReader(content))
	}))
	s := openIn(t, t.TempDir())
	_, err := s.PullImage(t.Context(), nodeapi.ImagePull{SHA256: sumOf(content), SizeBytes: int64(len(content)), StreamURL: url})
	if err != nil || requests.Load() != 3 || ranged.Load() != 2 {
		t.Errorf("%v after %d requests, %d with a range", err, requests.Load(), ranged.Load())
	}
}

// cut breaks the connection after some bytes.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestPullRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	for name, c := range map[string]struct {
		h    http.Handler
		want nodeapi.ImagePull
	}{
		"other content": {served([]byte("abc")), nodeapi.ImagePull{SHA256: sumOf([]byte("abd")), SizeBytes: 3}},
		"too long":      {served([]byte("abc")), nodeapi.ImagePull{SHA256: sumOf([]byte("abc")), SizeBytes: 2}},
		"expired":       {http.NotFoundHandler(), nodeapi.ImagePull{SHA256: sumOf([]byte("abc")), SizeBytes: 3}},
	} {
		c.want.StreamURL = serve(t, c.h)
		if _, err := s.PullImage(t.Context(), c.want); !errors.Is(err, nodeapi.ErrStorage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestPullsAreShared(t *testing.T) {
	content := []byte("image")
	var requests atomic.Int32
	begun, gate := make(chan struct{}, 8), make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		begun <- struct{}{}
		<-gate
		served(content).ServeHTTP(w, r)
	}))
	s := openIn(t, t.TempDir())
	want := nodeapi.ImagePull{SHA256: sumOf(content), SizeBytes: 5, StreamURL: url}
	first, cancelFirst := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	results := make(chan error, 5)
	for i := range 5 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		wg.Go(func() { _, err := s.PullImage(ctx, want); results <- err })
	}
	<-begun
	cancelFirst() // one that loses its patience does not spoil it for the others
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled pull: %v", err)
	}
	close(gate)
	wg.Wait()
	for range 4 {
		if err := <-results; err != nil {
			t.Errorf("pull: %v", err)
		}
	}
	if n := requests.Load(); n > 2 { // 2 where the cancelled one was alone for a moment
		t.Errorf("%d downloads", n)
	}
}

func TestFullStorage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s := openIn(t, dir)
	content := make([]byte, 2<<20)
	want := nodeapi.ImagePull{SHA256: sumOf(content), SizeBytes: int64(len(content)), StreamURL: serve(t, served(content))}
	if _, err := s.PullImage(t.Context(), want); !errors.Is(err, nodeapi.ErrStorageFull) {
		t.Errorf("pull: %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 420<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureDisk(t.Context(), uuid.New(), nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 30}); !errors.Is(err, nodeapi.ErrStorageFull) {
		t.Errorf("disk: %v", err)
	}
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
	if total, free, err := s.Usage(); err != nil || total != 512<<10 || free >= total {
		t.Errorf("usage %d, %d, %v", total, free, err)
	}
}

func TestConsole(t *testing.T) {
	s := openIn(t, t.TempDir())
	vm := uuid.New()
	if _, err := s.ReadConsole(vm, nodeapi.ConsoleRead{}); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("console of nothing: %v", err)
	}
	if err := s.EnsureSeed(vm, nodeapi.SeedSpec{}); err != nil {
		t.Fatal(err)
	}
	if c, err := s.ReadConsole(vm, nodeapi.ConsoleRead{}); err != nil || c.Size != 0 {
		t.Errorf("console before the first word: %+v, %v", c, err)
	}
	if err := os.WriteFile(s.ConsolePath(vm), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		offset int64
		limit  int
		want   string
		begin  int64
	}{{0, 0, "0123456789", 0}, {3, 4, "3456", 3}, {-3, 0, "789", 7}, {-99, 2, "01", 0}, {99, 5, "", 10}} {
		got, err := s.ReadConsole(vm, nodeapi.ConsoleRead{Offset: c.offset, MaxBytes: c.limit})
		if err != nil || string(got.Data) != c.want || got.Offset != c.begin || got.Size != 10 {
			t.Errorf("read(%d, %d) = %+v, %v", c.offset, c.limit, got, err)
		}
	}
}

func TestSeedIsReadable(t *testing.T) {
	s := openIn(t, t.TempDir())
	vm := uuid.New()
	long := string(bytes.Repeat([]byte("# comment\n"), 3000))
	for _, user := range []string{"#cloud-config\n", "#cloud-config\nhostname: ü\n" + long} {
		if err := s.EnsureSeed(vm, nodeapi.SeedSpec{MetaData: "instance-id: 1\n", UserData: user}); err != nil {
			t.Fatal(err)
		}
		label, err := exec.Command("blkid", "-o", "value", "-s", "LABEL", s.SeedPath(vm)).Output()
		if err != nil || string(bytes.TrimSpace(label)) != "CIDATA" {
			t.Errorf("label %q, %v", label, err)
		}
		if got := readISO(t, s.SeedPath(vm), "user-data"); got != user {
			t.Errorf("user-data came back with %d bytes, want %d", len(got), len(user))
		}
		if got := readISO(t, s.SeedPath(vm), "meta-data"); got != "instance-id: 1\n" {
			t.Errorf("meta-data %q", got)
		}
	}
}

// readISO reads a file as the kernel does, where the test may mount.
func readISO(t *testing.T, iso, name string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop,ro", iso, dir).CombinedOutput(); err != nil {
		return readISOInProcess(t, iso, name, string(out))
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
