package vmmodule

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

func isoFile() []byte {
	iso := make([]byte, 64<<10)
	copy(iso[16*2048:], "\x01CD001")
	return iso
}

func kernelFile() []byte {
	kernel := make([]byte, 4096)
	copy(kernel[0x1fe:], "\x55\xaa\x00\x00HdrS")
	return kernel
}

func qcow2File(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", file, "16M").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// upload sends an image whole and waits until it is ready.
func (w *world) upload(query string, content []byte) vm.Image {
	w.t.Helper()
	image := decode[vm.Image](w.t, w.do(http.MethodPost, "/api/v1/images?"+query, content, "Content-Type", "application/octet-stream"), http.StatusCreated)
	return w.ready(image.ID)
}

func (w *world) getImage(id uuid.UUID) vm.Image {
	w.t.Helper()
	return decode[vm.Image](w.t, w.do(http.MethodGet, "/api/v1/images/"+id.String(), nil), http.StatusOK)
}

func (w *world) ready(id uuid.UUID) vm.Image {
	w.t.Helper()
	w.eventually("the image is ready", func() bool {
		image := w.getImage(id)
		if image.Status == vm.ImageFailed {
			w.t.Fatalf("the import failed: %+v", image.Error)
		}
		return image.Status == vm.ImageReady
	})
	return w.getImage(id)
}

// noFiles checks that nothing of an image is left on the disk.
func (w *world) noFiles(id uuid.UUID) {
	w.t.Helper()
	if left, err := filepath.Glob(filepath.Join(w.dir, "images", "*"+id.String()+"*")); err != nil || len(left) > 0 {
		w.t.Errorf("files are left: %v %v", left, err)
	}
}

func TestImageImportFromAddress(t *testing.T) {
	w := newWorldWith(t, func(_ *world, cfg *Config) {
		cfg.ImportHosts, cfg.ImportNetworks = []string{"127.0.0.1", "localhost"}, []string{"127.0.0.0/8"}
		cfg.ImportMaxBytes = 1 << 20
	})
	good := qcow2File(t)
	sum := sha256.Sum256(good)
	var asked atomic.Int32
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", `"one"`)
		n := asked.Add(1)
		if n == 1 { // the connection breaks in the middle
			rw.Header().Set("Content-Length", strconv.Itoa(len(good)))
			_, _ = rw.Write(good[:len(good)/2])
			return
		}
		if want := fmt.Sprintf("bytes=%d-", len(good)/2); n == 2 && r.Header.Get("Range") != want {
			t.Errorf("asked for %q, want %q", r.Header.Get("Range"), want)
		}
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(good))
	})
	mux.HandleFunc("/away", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
	})
	mux.HandleFunc("/name", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://metadata.internal/", http.StatusFound)
	})
	mux.HandleFunc("/large", func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write(make([]byte, 2<<20)) })
	mux.HandleFunc("/text", func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write([]byte("hello")) })
	var begunLong atomic.Bool
	halfway, resumed := make(chan struct{}), make(chan string, 10)
	mux.HandleFunc("/long", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", `"long"`)
		if begunLong.Swap(true) {
			resumed <- r.Header.Get("Range")
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(good))
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(good)))
		_, _ = rw.Write(good[:len(good)/2])
		rw.(http.Flusher).Flush()
		close(halfway)
		<-r.Context().Done()
	})
	mux.HandleFunc("/slow", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", "1000")
		_, _ = rw.Write(make([]byte, 500))
		rw.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(release)

	t.Run("arrives", func(t *testing.T) {
		done := w.succeeds(http.MethodPost, "/api/v1/images", map[string]any{"name": "remote", "url": server.URL + "/good", "checksum": "sha256:" + hex.EncodeToString(sum[:])})
		image := w.getImage(done.TargetID)
		if image.Status != vm.ImageReady || image.Format != "qcow2" || image.VirtualSizeBytes != 16<<20 || image.SHA256 != hex.EncodeToString(sum[:]) || done.Kind != "image.fetch" {
			t.Errorf("imported %+v by %+v", image, done)
		}
		if len(done.Steps) != 4 || asked.Load() != 2 {
			t.Errorf("steps %+v, asked %d times", done.Steps, asked.Load())
		}
		w.succeeds(http.MethodPost, "/api/v1/vms", createRequest("from-remote", image.ID))
	})
	for path, code := range map[string]string{"/away": "image.url_refused", "/name": "image.url_refused", "/large": "image.too_large", "/text": "image.invalid", "/none": "image.fetch_failed"} {
		t.Run("fails at "+path, func(t *testing.T) {
			done := w.ended(http.MethodPost, "/api/v1/images", map[string]any{"name": "bad", "url": server.URL + path})
			image := w.getImage(done.TargetID)
			if done.Status != "failed" || done.Error == nil || done.Error.Code != code || image.Status != vm.ImageFailed || image.Error == nil || image.Error.Code != code {
				t.Errorf("ended as %+v %+v, image %+v", done, done.Error, image)
			}
			w.noFiles(done.TargetID)
		})
	}
	t.Run("a wrong checksum", func(t *testing.T) {
		done := w.ended(http.MethodPost, "/api/v1/images", map[string]any{"name": "bad", "url": server.URL + "/good", "checksum": strings.Repeat("0", 64)})
		if done.Error == nil || done.Error.Code != "image.checksum_mismatch" {
			t.Errorf("ended as %+v", done)
		}
		w.noFiles(done.TargetID)
	})
	t.Run("canceled", func(t *testing.T) {
		begun := decode[op](t, w.do(http.MethodPost, "/api/v1/images", map[string]any{"name": "slow", "url": server.URL + "/slow"}), http.StatusAccepted)
		path := "/api/v1/operations/" + begun.ID.String()
		w.eventually("it makes progress", func() bool { return decode[op](t, w.do(http.MethodGet, path, nil), http.StatusOK).Progress > 0 })
		w.do(http.MethodPost, path+"/cancel", nil)
		w.eventually("it is canceled", func() bool { return decode[op](t, w.do(http.MethodGet, path, nil), http.StatusOK).Status == "canceled" })
		w.noFiles(begun.TargetID)
	})
	t.Run("goes on after a restart", func(t *testing.T) {
		begun := decode[op](t, w.do(http.MethodPost, "/api/v1/images", map[string]any{"name": "long", "url": server.URL + "/long", "checksum": hex.EncodeToString(sum[:])}), http.StatusAccepted)
		<-halfway
		w.eventually("half of it is there", func() bool {
			info, err := os.Stat(filepath.Join(w.dir, "images", "upload-"+begun.TargetID.String()))
			return err == nil && info.Size() == int64(len(good)/2)
		})
		if err := w.vm.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.driver = fake.New() // a closed one stays closed
		if err := w.vm.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.ready(begun.TargetID)
		if got := <-resumed; got != fmt.Sprintf("bytes=%d-", len(good)/2) {
			t.Errorf("went on at %q", got)
		}
	})
	for name, body := range map[string]map[string]any{
		"another host":        {"name": "x", "url": "http://example.org/image"},
		"a private address":   {"name": "x", "url": "http://10.0.0.1/image"},
		"a file":              {"name": "x", "url": "file:///etc/shadow"},
		"a password":          {"name": "x", "url": "http://me:secret@127.0.0.1/image"},
		"neither nor":         {"name": "x"},
		"both":                {"name": "x", "url": server.URL, "size_bytes": 5},
		"a field too many":    {"name": "x", "url": server.URL, "colour": "red"},
		"a field of a kind":   {"name": 5, "url": server.URL},
		"an unknown kind":     {"name": "x", "url": server.URL, "kind": "floppy"},
		"tenants that aren't": {"name": "x", "url": server.URL, "shared_with": []string{"all"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := w.do(http.MethodPost, "/api/v1/images", body)
			if p := decode[errs.Problem](t, rec, http.StatusUnprocessableEntity); p.Code != "image.url_refused" && p.Code != "request.invalid" {
				t.Errorf("refused as %+v", p)
			}
		})
	}
	if rec := w.do(http.MethodPost, "/api/v1/images", "{"); rec.Code != http.StatusBadRequest {
		t.Errorf("half a body is answered with %d", rec.Code)
	}
}

func (w *world) part(id uuid.UUID, offset int, content []byte) *httptest.ResponseRecorder {
	return w.do(http.MethodPatch, "/api/v1/images/"+id.String()+"/content", content, "Content-Type", "application/octet-stream", "Upload-Offset", strconv.Itoa(offset))
}

func (w *world) offset(id uuid.UUID) string {
	w.t.Helper()
	rec := w.do(http.MethodHead, "/api/v1/images/"+id.String()+"/content", nil)
	if rec.Code != http.StatusOK {
		w.t.Fatalf("HEAD answers %d", rec.Code)
	}
	return rec.Header().Get("Upload-Offset") + "/" + rec.Header().Get("Upload-Length")
}

func TestImageUploadInParts(t *testing.T) {
	w := newWorldWith(t, func(_ *world, cfg *Config) { cfg.UploadTTL = time.Minute })
	content := qcow2File(t)
	size := len(content)
	sum := sha256.Sum256(content)
	begin := func(checksum string) uuid.UUID {
		image := decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images", map[string]any{"name": "parts", "size_bytes": size, "checksum": checksum}), http.StatusCreated)
		if image.Status != vm.ImageUploading || image.DeclaredBytes != int64(size) {
			t.Fatalf("begun as %+v", image)
		}
		return image.ID
	}
	id := begin(hex.EncodeToString(sum[:]))
	w.refused(http.MethodPost, "/api/v1/vms", createRequest("early", id), http.StatusConflict, "image.uploading")
	if image := decode[vm.Image](t, w.part(id, 0, content[:1000]), http.StatusOK); image.Status != vm.ImageUploading || image.ReceivedBytes != 1000 {
		t.Errorf("after a part %+v", image)
	}
	if p := decode[errs.Problem](t, w.part(id, 500, content[500:]), http.StatusConflict); p.Code != "image.wrong_offset" {
		t.Errorf("refused as %+v", p)
	}
	if at := w.offset(id); at != fmt.Sprintf("1000/%d", size) {
		t.Errorf("the offset is %s", at)
	}
	other := w.tenant
	other.UserID, other.TenantID = uuid.New(), uuid.New()
	if rec := w.doAs(other, http.MethodHead, "/api/v1/images/"+id.String()+"/content", nil); rec.Code != http.StatusNotFound {
		t.Errorf("another tenant is answered with %d", rec.Code)
	}
	ranged := w.do(http.MethodPatch, "/api/v1/images/"+id.String()+"/content", content[1000:], "Content-Type", "application/octet-stream",
		"Content-Range", fmt.Sprintf("bytes 1000-%d/%d", size-1, size))
	decode[vm.Image](t, ranged, http.StatusOK)
	if image := w.ready(id); image.SHA256 != hex.EncodeToString(sum[:]) || image.Format != "qcow2" {
		t.Errorf("imported %+v", image)
	}
	if p := decode[errs.Problem](t, w.part(id, size, nil), http.StatusConflict); p.Code != "image.not_uploading" {
		t.Errorf("refused as %+v", p)
	}

	bad := begin(strings.Repeat("0", 64))
	if p := decode[errs.Problem](t, w.part(bad, 0, content), http.StatusUnprocessableEntity); p.Code != "image.checksum_mismatch" {
		t.Errorf("refused as %+v", p)
	}
	w.refused(http.MethodGet, "/api/v1/images/"+bad.String(), nil, http.StatusNotFound, "image.not_found")
	w.noFiles(bad)

	stale, fresh := begin(""), begin("")
	decode[vm.Image](t, w.part(stale, 0, content[:10]), http.StatusOK)
	if _, err := w.vm.controller.pool.Exec(t.Context(), "UPDATE images SET updated_at = now() - interval '2 minutes' WHERE id = $1", stale); err != nil {
		t.Fatal(err)
	}
	if err := w.vm.svc.SweepImages(t.Context(), service.ImageGrace); err != nil {
		t.Fatal(err)
	}
	w.refused(http.MethodGet, "/api/v1/images/"+stale.String(), nil, http.StatusNotFound, "image.not_found")
	w.noFiles(stale)
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+fresh.String(), nil); rec.Code != http.StatusNoContent {
		t.Errorf("giving an upload up is answered with %d", rec.Code)
	}
}

func TestImagesAreShared(t *testing.T) {
	w := newWorld(t)
	mine := w.upload("name=mine", qcow2File(t))
	path := "/api/v1/images/" + mine.ID.String()
	friend, stranger := principal("*"), principal("*")
	sees := func(p identity.Principal) (got, listed bool) {
		rec := w.doAs(p, http.MethodGet, path, nil)
		list := decode[struct{ Items []vm.Image }](t, w.doAs(p, http.MethodGet, "/api/v1/images", nil), http.StatusOK)
		return rec.Code == http.StatusOK, slices.ContainsFunc(list.Items, func(i vm.Image) bool { return i.ID == mine.ID })
	}
	expect := func(when string, p identity.Principal, want bool) {
		t.Helper()
		if got, listed := sees(p); got != want || listed != want {
			t.Errorf("%s: reads it %t, lists it %t, want %t", when, got, listed, want)
		}
	}
	expect("private", friend, false)
	rec := w.do(http.MethodPatch, path, map[string]any{"visibility": "shared", "shared_with": []uuid.UUID{friend.TenantID}}, "If-Match", w.do(http.MethodGet, path, nil).Header().Get("ETag"))
	if image := decode[vm.Image](t, rec, http.StatusOK); image.Visibility != vm.ImageShared || len(image.SharedWith) != 1 {
		t.Errorf("shared as %+v", image)
	}
	if rec := w.do(http.MethodPatch, path, map[string]any{"name": "late"}, "If-Match", `"1-ready"`); rec.Code != http.StatusPreconditionFailed {
		t.Errorf("a late change is answered with %d", rec.Code)
	}
	expect("shared", friend, true)
	expect("shared with another", stranger, false)
	if image := decode[vm.Image](t, w.doAs(friend, http.MethodGet, path, nil), http.StatusOK); len(image.SharedWith) != 0 || image.OwnerID != uuid.Nil {
		t.Errorf("a friend sees %+v", image)
	}
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		var body any
		if method == http.MethodPatch {
			body = map[string]any{"name": "taken"}
		}
		if rec := w.doAs(friend, method, path, body); rec.Code != http.StatusForbidden {
			t.Errorf("a friend's %s is answered with %d", method, rec.Code)
		}
		if rec := w.doAs(stranger, method, path, body); rec.Code != http.StatusNotFound {
			t.Errorf("a stranger's %s is answered with %d", method, rec.Code)
		}
	}
	if done := decode[op](t, w.doAs(friend, http.MethodPost, "/api/v1/vms?wait=60s", createRequest("theirs", mine.ID)), http.StatusOK); done.Status != "succeeded" {
		t.Errorf("a friend's machine: %+v", done)
	}
	w.refused(http.MethodDelete, path, nil, http.StatusConflict, "image.in_use")
	if rec := w.do(http.MethodPatch, path, map[string]any{"visibility": "public"}); rec.Code != http.StatusForbidden {
		t.Errorf("publishing is answered with %d", rec.Code)
	}
	admin := w.tenant
	admin.Scope = identity.ScopePlatform
	decode[vm.Image](t, w.doAs(admin, http.MethodPatch, path, map[string]any{"visibility": "public"}), http.StatusOK)
	expect("public", stranger, true)
	if list := decode[struct{ Items []vm.Image }](t, w.doAs(stranger, http.MethodGet, "/api/v1/images?own=true", nil), http.StatusOK); len(list.Items) != 0 {
		t.Errorf("a stranger's own are %+v", list.Items)
	}
	if rec := w.do(http.MethodPatch, path, map[string]any{"visibility": "private"}); rec.Code != http.StatusForbidden {
		t.Errorf("taking it back is answered with %d", rec.Code)
	}
	decode[vm.Image](t, w.doAs(admin, http.MethodPatch, path, map[string]any{"visibility": "private"}), http.StatusOK)
	expect("private again", friend, false)
}

func TestMachinesWithDiscsAndKernels(t *testing.T) {
	w := newWorld(t)
	iso, kernel, initrd := w.upload("name=iso", isoFile()), w.upload("name=kernel&kind=kernel", kernelFile()), w.upload("name=initrd&kind=initrd", []byte("\x1f\x8b\x08 packed"))
	disk := w.upload("name=disk", qcow2File(t))
	if iso.Kind != vm.ImageISO || kernel.Kind != vm.ImageKernel || initrd.Kind != vm.ImageInitrd {
		t.Fatalf("kinds %s, %s, %s", iso.Kind, kernel.Kind, initrd.Kind)
	}

	install := w.succeeds(http.MethodPost, "/api/v1/vms", createRequest("install", iso.ID)).TargetID
	def := w.driver.Defined(install)
	if !def.Drive || filepath.Ext(def.Disc) != ".iso" || def.Disks[0].Backing != "" || w.driver.Disc(install) != def.Disc {
		t.Errorf("installed from %+v", def)
	}
	if content, err := os.ReadFile(def.Disc); err != nil || !bytes.Equal(content, isoFile()) {
		t.Errorf("the disc holds something else: %v", err)
	}
	path := "/api/v1/vms/" + install.String()
	if m := decode[vm.VM](t, w.do(http.MethodDelete, path+"/cdrom", nil), http.StatusOK); m.CDROM.ImageID != nil || !m.CDROM.Drive || len(m.Pending) != 0 {
		t.Errorf("ejected: %+v %+v", m.CDROM, m.Pending)
	}
	if w.driver.Disc(install) != "" || w.driver.Defined(install).Disc != "" {
		t.Error("the disc is still in")
	}
	if _, err := os.Stat(def.Disc); !os.IsNotExist(err) {
		t.Errorf("the machine still has the disc: %v", err)
	}
	insert := map[string]any{"image_id": iso.ID}
	decode[vm.VM](t, w.do(http.MethodPut, path+"/cdrom", insert), http.StatusOK)
	w.driver.HoldDiscs(true)
	w.refused(http.MethodDelete, path+"/cdrom", nil, http.StatusConflict, "cdrom.held_by_guest")
	w.driver.HoldDiscs(false)
	w.eventually("the edit is taken back", func() bool {
		m := decode[vm.VM](t, w.do(http.MethodGet, path, nil), http.StatusOK)
		return m.OperationID == nil && m.CDROM.ImageID != nil && w.driver.Disc(install) != ""
	})
	if m := decode[vm.VM](t, w.do(http.MethodPatch, path, map[string]any{"boot_order": []string{"cdrom", "root"}}), http.StatusOK); len(m.Pending) != 1 || m.Pending[0].Field != "boot_order" {
		t.Errorf("pending %+v", m.Pending)
	}
	if def := w.driver.Defined(install); def.DriveBoot != 1 || def.Disks[0].Boot != 2 {
		t.Errorf("boots from %+v", def)
	}

	body := createRequest("direct", disk.ID)
	body["direct_boot"] = map[string]any{"kernel_image_id": kernel.ID, "initrd_image_id": initrd.ID, "command_line": "console=ttyS0"}
	direct := w.succeeds(http.MethodPost, "/api/v1/vms", body).TargetID
	def = w.driver.Defined(direct)
	if content, err := os.ReadFile(def.Kernel); err != nil || !bytes.Equal(content, kernelFile()) || def.CommandLine != "console=ttyS0" || def.Initrd == "" || def.Drive {
		t.Errorf("direct boot of %+v: %v", def, err)
	}
	w.refused(http.MethodDelete, "/api/v1/images/"+kernel.ID.String(), nil, http.StatusConflict, "image.in_use")
	w.refused(http.MethodDelete, "/api/v1/images/"+iso.ID.String(), nil, http.StatusConflict, "image.in_use")
	other := "/api/v1/vms/" + direct.String()
	if m := decode[vm.VM](t, w.do(http.MethodPut, other+"/cdrom", insert), http.StatusOK); len(m.Pending) != 1 || m.Pending[0].Field != "cdrom" || !m.CDROM.Drive {
		t.Errorf("a new drive: %+v %+v", m.CDROM, m.Pending)
	}
	if m := decode[vm.VM](t, w.do(http.MethodPatch, other, map[string]any{"direct_boot": map[string]any{}}), http.StatusOK); m.DirectBoot.KernelImageID != nil || w.driver.Defined(direct).Kernel != "" {
		t.Errorf("boots directly: %+v", m.DirectBoot)
	}
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+kernel.ID.String(), nil); rec.Code != http.StatusNoContent {
		t.Errorf("a kernel that nothing uses: %d %s", rec.Code, rec.Body)
	}

	w.refused(http.MethodPut, path+"/cdrom", map[string]any{"image_id": disk.ID}, http.StatusUnprocessableEntity, "image.wrong_kind")
	w.refused(http.MethodPut, path+"/cdrom", map[string]any{"image_id": uuid.New()}, http.StatusNotFound, "image.not_found")
	w.refused(http.MethodPost, "/api/v1/vms", createRequest("wrong", initrd.ID), http.StatusUnprocessableEntity, "image.wrong_kind")
	w.refused(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "wrong", "size_gib": 1, "image_id": iso.ID}, http.StatusUnprocessableEntity, "image.wrong_kind")
	w.refused(http.MethodPatch, path, map[string]any{"direct_boot": map[string]any{"command_line": "alone"}}, http.StatusUnprocessableEntity, "vm.invalid")
	bad := createRequest("wrong", disk.ID)
	bad["boot_order"] = []string{"cdrom"}
	w.refused(http.MethodPost, "/api/v1/vms", bad, http.StatusUnprocessableEntity, "vm.invalid")
	w.failing(func(kind, step, when string) error {
		if kind == "vm.create" && step == "network" && when == "before do" {
			return errBroken
		}
		return nil
	})
	broken := createRequest("broken", disk.ID)
	broken["cdrom_image_id"] = iso.ID
	failed := w.ended(http.MethodPost, "/api/v1/vms", broken)
	if _, err := os.Stat(filepath.Join(w.dir, "node", "disks", failed.TargetID.String())); failed.Status != "failed" || !os.IsNotExist(err) {
		t.Errorf("a creation that ended as %s left something: %v", failed.Status, err)
	}
	w.failing(nil)
	for _, id := range []uuid.UUID{install, direct} {
		w.succeeds(http.MethodDelete, "/api/v1/vms/"+id.String(), nil)
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "node", "disks", "*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left on the node: %v %v", left, err)
	}
}
