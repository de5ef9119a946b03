package apiclient_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// An upload in parts goes on where it is after a part that was lost and a server that could not take one.
func TestUploadInParts(t *testing.T) {
	image := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	id := uuid.New()
	var mu sync.Mutex // guards what follows
	var have []byte
	patches := 0
	mux := http.NewServeMux()
	path := "/api/v1/images/" + id.String() + "/content"
	mux.HandleFunc("HEAD "+path, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Upload-Offset", strconv.Itoa(len(have)))
		w.Header().Set("Upload-Length", strconv.Itoa(len(image)))
	})
	mux.HandleFunc("PATCH "+path, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		patches++
		switch {
		case err != nil || r.Header.Get("Upload-Offset") != strconv.Itoa(len(have)):
			t.Errorf("a part at %s of %d bytes, %d are there: %v", r.Header.Get("Upload-Offset"), len(body), len(have), err)
		case patches == 1: // half of it arrives
			have = append(have, body[:len(body)/2]...)
			problem(w, errs.New(errs.Unavailable, "test.away", "away"))
		default:
			have = append(have, body...)
			fmt.Fprintf(w, `{"id":%q,"status":"importing"}`, id)
		}
	})
	c, _ := serve(t, mux)
	var sent atomic.Int64
	got, err := c.SendParts(t.Context(), id, bytes.NewReader(image), int64(len(image)), sent.Store)
	if err != nil || got.Value.Status != vm.ImageImporting || !bytes.Equal(have, image) || sent.Load() != int64(len(image)) || patches != 2 {
		t.Errorf("%+v, %v, %d of %d bytes, %d told, %d parts", got.Value, err, len(have), len(image), sent.Load(), patches)
	}
	if _, err := c.SendParts(t.Context(), id, bytes.NewReader(image[:100]), 100, nil); err == nil {
		t.Error("another file goes on with the upload")
	}
	if _, err := c.SendParts(t.Context(), uuid.New(), bytes.NewReader(image), 100, nil); err == nil {
		t.Error("an image that is not there is uploaded")
	}
}
