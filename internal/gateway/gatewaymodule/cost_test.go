package gatewaymodule_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
)

// mostAllocations is how many pieces of memory a GET may take on its whole way, net/http aside: 33 today, of which 14 are the module's, and 41 with
// the race detector, which empties pools at random. Each costs every request of every client, here and again when garbage is collected.
const mostAllocations = 45

func TestRequestsTakeLittleMemory(t *testing.T) {
	d := openWhole(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/things/"+uuid.NewString(), nil)
	r.Header.Set("Authorization", "Bearer x")
	w := &sinkWriter{header: http.Header{}}
	serve := func() {
		clear(w.header)
		d.Edge().ServeHTTP(w, r)
		if w.status != http.StatusOK {
			t.Fatalf("answered %d", w.status)
		}
	}
	serve() // fills what is remembered
	if n := testing.AllocsPerRun(500, serve); n > mostAllocations {
		t.Errorf("a request takes %v pieces of memory, and may take %d", n, mostAllocations)
	}
}
