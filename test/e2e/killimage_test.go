package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

type image struct {
	ID          string
	Status      string
	OperationID string `json:"operation_id"`
	SHA256      string
}

// mirror is a server that images are fetched from. It holds back the second half of its file until it is let go.
type mirror struct {
	*httptest.Server
	content []byte
	half    chan struct{} // closed to let the rest go
	ranges  chan string   // what was asked for
}

func newMirror(t *testing.T, content []byte) *mirror {
	m := &mirror{content: content, half: make(chan struct{}), ranges: make(chan string, 100)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.ranges <- r.Header.Get("Range")
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, &halting{Reader: bytes.NewReader(content), flush: w.(http.Flusher).Flush, at: int64(len(content) / 2), until: m.half, end: r.Context().Done()})
	}))
	t.Cleanup(m.Close)
	return m
}

// halting reads up to a place, and the rest once until is closed.
type halting struct {
	*bytes.Reader
	flush      func()
	at         int64
	until, end <-chan struct{}
}

func (h *halting) Read(p []byte) (int, error) {
	switch left := h.at - (h.Size() - int64(h.Len())); {
	case left > 0:
		p = p[:min(int64(len(p)), left)]
	case h.flush != nil:
		h.flush()
		fallthrough
	default:
		select {
		case <-h.until:
		case <-h.end:
			return 0, io.ErrUnexpectedEOF
		}
	}
	return h.Reader.Read(p)
}

// WriteTo would pass Read by.
func (h *halting) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{h}) }

// imageKills is a site whose images are made while its process is killed.
type imageKills struct {
	*site
	env     []string
	content []byte // of an image
	empty   []string
}

func (k *imageKills) on(t *testing.T) func() {
	outer := k.t
	k.t = t
	return func() { k.t = outer }
}

// killAt gives the environment of a server that is to be killed at a point.
func (k *imageKills) killAt(point string) []string {
	return append(slices.Clone(k.env), "NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+filepath.Join(k.t.TempDir(), "killed"))
}

// goesOn starts the server after it was killed, and waits until it is killed at each of some points, one after the other.
func (k *imageKills) goesOn(kind string, points []string) {
	k.t.Helper()
	for _, point := range points {
		k.launch(k.killAt(kind + "/" + point)...) // what goes on may be there before the server is ready
		k.killed(point)
	}
}

// kill kills the server now.
func (k *imageKills) kill() {
	k.t.Helper()
	if err := k.server.Process.Kill(); err != nil {
		k.t.Fatal(err)
	}
	k.killed("an arbitrary moment")
}

// files lists what is in the data folder besides the database and the audit trail, which grows.
func (k *imageKills) files() (names []string) {
	k.t.Helper()
	err := filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && !os.IsNotExist(err):
			return err
		case err != nil:
			return nil
		case d.IsDir() && (d.Name() == "postgres" || d.Name() == "audit"):
			return fs.SkipDir
		case !d.IsDir():
			names = append(names, strings.TrimPrefix(path, k.dir))
		}
		return nil
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return names
}

func (k *imageKills) nothingLeft() {
	k.t.Helper()
	var last []string
	k.within(20*time.Second, "the data folder is as it was", func() bool { // others write files anew by way of temporary ones
		files := k.files()
		if slices.Equal(files, k.empty) {
			return true
		}
		if !slices.Equal(files, last) {
			k.t.Logf("the data folder holds\n%s\nand held\n%s", strings.Join(files, "\n"), strings.Join(k.empty, "\n"))
			last = files
		}
		return false
	})
	k.site.nothingLeft()
}

// image reads an image, which must not wait for an operation that is none.
func (k *imageKills) image(id string) image {
	k.t.Helper()
	var img image
	k.must(k.call(http.MethodGet, "/api/v1/images/"+id, nil, &img), http.StatusOK)
	return img
}

// ends waits for the end of what makes an image, and deletes it.
func (k *imageKills) ends(id, status string) {
	k.t.Helper()
	img := k.image(id)
	if img.Status == "importing" {
		var op operation
		k.must(k.call(http.MethodGet, "/api/v1/operations/"+img.OperationID+"?wait=60s", nil, &op), http.StatusOK)
		img = k.image(id)
	}
	if img.Status != status || img.OperationID != "" {
		k.t.Errorf("the image is %+v, want %s; the server says:\n%s", img, status, tail(k.log.String(), 60))
	}
	if digest := sha256.Sum256(k.content); status == "ready" && img.SHA256 != hex.EncodeToString(digest[:]) {
		k.t.Errorf("the image has arrived as %s", img.SHA256)
	}
	if status == "failed" {
		k.nothingLeft()
	}
	k.must(k.call(http.MethodDelete, "/api/v1/images/"+id, nil, nil), http.StatusNoContent)
	k.nothingLeft()
}

func (k *imageKills) fetch(url string, more map[string]any) (imageID string) {
	k.t.Helper()
	body := map[string]any{"name": "fetched", "url": url}
	for key, value := range more {
		body[key] = value
	}
	var op operation
	k.must(k.call(http.MethodPost, "/api/v1/images", body, &op), http.StatusAccepted)
	return op.TargetID
}

func (k *imageKills) beginParts() (id string) {
	k.t.Helper()
	var img image
	k.must(k.call(http.MethodPost, "/api/v1/images", map[string]any{"name": "in-parts", "size_bytes": len(k.content)}, &img), http.StatusCreated)
	return img.ID
}

// part sends a part of an upload, and answers when the server has, or has died.
func (k *imageKills) part(id string, offset int64, body io.Reader) error {
	req, err := http.NewRequest(http.MethodPatch, "http://"+k.listen+"/api/v1/images/"+id+"/content", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	req.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// offset asks how much of an upload has arrived.
func (k *imageKills) offset(id string) int64 {
	k.t.Helper()
	req, err := http.NewRequest(http.MethodHead, "http://"+k.listen+"/api/v1/images/"+id+"/content", nil)
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	_ = resp.Body.Close() // there is none
	offset, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		k.t.Fatal(err)
	}
	return offset
}

// arrived waits until so much of the raw material of some images is on the disk.
func (k *imageKills) arrived(uploads int, size int64) {
	k.t.Helper()
	k.eventually("uploads have arrived by half", func() bool {
		found, _ := filepath.Glob(filepath.Join(k.dir, "images", "upload-*"))
		return len(found) == uploads && !slices.ContainsFunc(found, func(name string) bool {
			info, err := os.Stat(name)
			return err != nil || info.Size() < size
		})
	})
}

// The whole process is killed while images arrive, whole, in parts and from an address, while one is converted, and at the steps of what
// makes them, one after the other. What can go on does, what cannot leaves nothing behind, and no image waits for ever.
func TestKillWhileImagesAreMade(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	file, err := demoImage()
	if err != nil {
		t.Fatal(err)
	}
	k := &imageKills{site: newSite(t), env: []string{"NOVACRON_VM_IMAGE_IMPORT_HOSTS=*", "NOVACRON_VM_IMAGE_IMPORT_NETWORKS=127.0.0.0/8"}}
	if k.content, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	fetching, importing, undoing := []string{"convert/after do", "publish/after do"}, []string{"publish/after do"}, []string{"fetch/after undo"}
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		fetching, undoing = nil, []string{"fetch/before undo", "fetch/after undo"}
		for _, step := range []string{"fetch", "screen", "convert", "publish"} {
			fetching = append(fetching, step+"/before do", step+"/after do")
		}
		importing = fetching[4:]
	}
	k.start(k.env...)
	k.eventually("the node has its policy", func() bool {
		k.empty = k.files()
		return slices.Contains(k.empty, "/node/policy.json")
	})
	t.Run("while they arrive", func(t *testing.T) { k.whileTheyArrive(t, fetching, importing) })
	t.Run("while one is undone", func(t *testing.T) { k.whileOneIsUndone(t, undoing) })
	t.Run("in the middle of a conversion", k.inTheMiddleOfAConversion)
}

func (k *imageKills) whileTheyArrive(t *testing.T, fetching, importing []string) {
	defer k.on(t)()
	m := newMirror(t, k.content)
	fetched, parts := k.fetch(m.URL, nil), k.beginParts()
	half := int64(len(k.content) / 2)
	cut, ended := make(chan struct{}), make(chan struct{}, 2)
	halves := func() io.Reader {
		return &halting{Reader: bytes.NewReader(k.content), at: half, until: make(chan struct{}), end: cut}
	}
	go func() { _ = k.part(parts, 0, halves()); ended <- struct{}{} }() // ends with the server
	go func() {
		req, err := http.NewRequest(http.MethodPost, "http://"+k.listen+"/api/v1/images?name=whole", halves())
		if err == nil {
			req.Header.Set("Content-Type", "application/octet-stream")
			req.Header.Set("Authorization", "Bearer "+k.token)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close() // it cannot be
			}
		}
		ended <- struct{}{}
	}()
	k.arrived(3, half)
	k.kill()
	close(cut)
	<-ended
	<-ended
	if asked := <-m.ranges; asked != "" {
		t.Errorf("the first attempt asked for %q", asked)
	}

	close(m.half)
	k.goesOn("image.fetch", fetching)
	k.wholeIsGone(parts, fetched)
	if asked := <-m.ranges; asked != "bytes="+strconv.FormatInt(half, 10)+"-" {
		t.Errorf("the second attempt asked for %q", asked)
	}
	k.start(k.killAt("image.import/" + importing[0])...)
	now := k.offset(parts)
	if now != half {
		t.Errorf("of the upload in parts %d bytes are there, want %d", now, half)
	}
	_ = k.part(parts, now, bytes.NewReader(k.content[now:])) // the server may die before it has answered
	k.killed(importing[0])
	k.goesOn("image.import", importing[1:])
	k.start(k.env...)
	k.eventually("the fetched image is there", func() bool { return k.image(fetched).Status == "ready" })
	k.must(k.call(http.MethodDelete, "/api/v1/images/"+fetched, nil, nil), http.StatusNoContent)
	k.ends(parts, "ready")
}

// wholeIsGone checks that what came of an upload that was to come whole is gone: nobody can go on with it.
func (k *imageKills) wholeIsGone(others ...string) {
	k.t.Helper()
	found, err := filepath.Glob(filepath.Join(k.dir, "images", "*"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, name := range found {
		if !slices.ContainsFunc(others, func(id string) bool { return strings.Contains(name, id) }) {
			k.t.Errorf("%s is left of an upload that was cut off", name)
		}
	}
}

func (k *imageKills) whileOneIsUndone(t *testing.T, points []string) {
	defer k.on(t)()
	m := newMirror(t, k.content)
	id := k.fetch(m.URL, map[string]any{"checksum": strings.Repeat("0", 64)})
	k.arrived(1, int64(len(k.content)/2))
	k.kill()
	close(m.half)
	k.goesOn("image.fetch", points)
	k.start(k.env...)
	k.ends(id, "failed")
}

// inTheMiddleOfAConversion kills the server while qemu-img is at work, which must not outlive it.
func (k *imageKills) inTheMiddleOfAConversion(t *testing.T) {
	defer k.on(t)()
	defer func(content []byte) { k.content = content }(k.content)
	k.content = slow(t)
	id := k.beginParts()
	if err := k.part(id, 0, bytes.NewReader(k.content)); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(k.dir, "images", id+".qcow2")
	for { // as soon as can be: this is a race with qemu-img
		if _, err := os.Stat(made + ".tmp"); err == nil {
			break
		}
		if _, err := os.Stat(made); err == nil {
			t.Fatal("the conversion was over before it was seen")
		}
	}
	k.kill()
	if _, err := os.Stat(made); err == nil {
		t.Fatal("the conversion was over before the server was killed")
	}
	k.eventually("no qemu-img works on", func() bool {
		return exec.Command("pgrep", "-f", "qemu-img convert .*"+id).Run() != nil
	})
	k.start(k.env...)
	k.ends(id, "ready")
}

// slow makes a small image that takes a while to convert: many clusters that are packed.
func slow(t *testing.T) []byte {
	t.Helper()
	raw, packed := filepath.Join(t.TempDir(), "raw"), filepath.Join(t.TempDir(), "packed.qcow2")
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("novacron"), 1<<17)
	for range 256 {
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "convert", "-c", "-O", "qcow2", raw, packed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Remove(raw); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
