package vmmodule

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// form makes a form of fields, pairs of name and value, and a file behind them; nil: none.
func form(t *testing.T, file []byte, fields ...string) (body []byte, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if file != nil {
		part, err := w.CreateFormFile("file", "disk.img")
		if err == nil {
			_, err = part.Write(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType()
}

// An image sent as browsers and 'curl -F' send files, and an answer that waits for the import.
func TestImageUploadByForm(t *testing.T) {
	w := newWorld(t)
	content := qcow2File(t)
	send := func(query string, file []byte, fields ...string) (int, []byte) {
		t.Helper()
		body, kind := form(t, file, fields...)
		rec := w.do(http.MethodPost, "/api/v1/images"+query, body, "Content-Type", kind)
		return rec.Code, rec.Body.Bytes()
	}
	for name, test := range map[string]struct {
		query  string
		fields []string
	}{
		"fields":         {"?wait=60s", []string{"name", "fields", "format", "qcow2"}},
		"address":        {"?name=address&format=qcow2&wait=60s", nil},
		"both":           {"?name=both", []string{"format", "qcow2", "wait", "60s"}},
		"name-in-a-form": {"", []string{"name", "name-in-a-form", "visibility", "private", "wait", "1m"}},
	} {
		body, kind := form(t, content, test.fields...)
		image := decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images"+test.query, body, "Content-Type", kind), http.StatusCreated)
		if image.Name != name || image.Status != vm.ImageReady || image.Format != "qcow2" {
			t.Errorf("%s: the image is %+v", name, image)
		}
	}
	for name, test := range map[string]struct {
		query  string
		file   []byte
		fields []string
		want   string
	}{
		"no name":            {"", content, nil, "query.name"},
		"two names":          {"?name=a", content, []string{"name", "b"}, "query.name"},
		"an unknown field":   {"?name=a", content, []string{"colour", "red"}, "query.colour"},
		"a wait of nonsense": {"?name=a&wait=soon", content, nil, "query.wait"},
		"a long field":       {"", content, []string{"name", strings.Repeat("a", 5000)}, "body.name"},
		"no file":            {"", nil, []string{"name", "a"}, "no file"},
		"too many fields":    {"", content, strings.Split(strings.Repeat("name,a,", 17)+"name,a", ","), "body.name"},
	} {
		status, body := send(test.query, test.file, test.fields...)
		if status != http.StatusUnprocessableEntity || !bytes.Contains(body, []byte(test.want)) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	body, _ := form(t, content, "name", "a")
	broken := w.do(http.MethodPost, "/api/v1/images", body, "Content-Type", "multipart/form-data")
	if p := decode[errs.Problem](t, broken, http.StatusBadRequest); p.Code != "request.malformed" {
		t.Errorf("a form without its boundary: %s", p.Code)
	}
}

// An upload may wait, too: its answer has the image as it is after the import.
func TestImageUploadWaits(t *testing.T) {
	w := newWorld(t)
	image := decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images?name=demo&wait=60s", qcow2File(t), "Content-Type", "application/octet-stream"), http.StatusCreated)
	if image.Status != vm.ImageReady || image.OperationID != nil {
		t.Errorf("the image is %+v", image)
	}
	preferred := decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images?name=demo", qcow2File(t), "Content-Type", "application/octet-stream", "Prefer", "wait=60"), http.StatusCreated)
	if preferred.Status != vm.ImageReady {
		t.Errorf("the image is %+v", preferred)
	}
}
