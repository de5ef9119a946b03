package app

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/novacron/novacron/internal/gateway/gatewaytest"
)

var baseline = flag.Bool("baseline", false, "keep today's OpenAPI document as that of the last release")

const releasedFile = "openapi-released.json.gz"

// accepted are the breaks since the last release that were decided on, each as the test words it, and why. A new baseline empties it.
func accepted() map[string]string {
	const (
		secondFactor = "a login that asks for a second factor answers no token yet; only who set up a second factor meets it"
		noSubnet     = "a network of a kind without a subnet of its own has neither range nor gateway; those of the kind there was still answer them"
		noSession    = "a caller without a session has no id of one; with a session it is still there"
	)
	gone := func(at, property string) string {
		return at + ": the property " + property + " is no longer always there"
	}
	return map[string]string{
		gone("POST /auth/login: answer 200", "access_token"):        secondFactor,
		gone("POST /auth/login: answer 200", "refresh_token"):       secondFactor,
		gone("POST /auth/login: answer 200", "token_type"):          secondFactor,
		gone("GET /api/v1/networks: answer 200.items[]", "cidr"):    noSubnet,
		gone("GET /api/v1/networks: answer 200.items[]", "gateway"): noSubnet,
		gone("GET /api/v1/networks/{id}: answer 200", "cidr"):       noSubnet,
		gone("GET /api/v1/networks/{id}: answer 200", "gateway"):    noSubnet,
		gone("POST /api/v1/networks: answer 201", "cidr"):           noSubnet,
		gone("POST /api/v1/networks: answer 201", "gateway"):        noSubnet,
		gone("GET /api/v1/me: answer 200", "session_id"):            noSession,
	}
}

// TestNothingOfTheLastReleaseBroke compares what is served with what the last release served.
func TestNothingOfTheLastReleaseBroke(t *testing.T) {
	file, today := filepath.Join("testdata", releasedFile), built(t).gateway.Spec()
	if *baseline {
		if err := os.WriteFile(file, zipped(t, today), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(file) //nolint:gosec // a file of this test's
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	before, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	found, err := gatewaytest.Breaking(before, today)
	if err != nil {
		t.Fatal(err)
	}
	decided, used := accepted(), map[string]bool{}
	for _, f := range found {
		used[f] = true
		if decided[f] == "" {
			t.Errorf("breaks callers of the last release: %s", f)
		}
	}
	for f := range decided {
		if !used[f] {
			t.Errorf("the break %q is accepted, but is none: remove it from the list", f)
		}
	}
}

func zipped(t *testing.T, document []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(document); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
