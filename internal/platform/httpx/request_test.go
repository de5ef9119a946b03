package httpx_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

func TestProblemsNameThePathTheClientAskedFor(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/vms", nil)
	ctx := httpx.WithRequest(r.Context(), "r-1", "/api/vms")
	if code := httpx.ProblemCode(ctx); code != "" {
		t.Errorf("a problem before there was one: %s", code)
	}
	w := httptest.NewRecorder()
	httpx.WriteError(w, r.WithContext(ctx), httpx.ErrNotFound)
	var p errs.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Instance != "/api/vms" || p.RequestID != "r-1" || w.Code != http.StatusNotFound {
		t.Errorf("got %d %+v", w.Code, p)
	}
	if code := httpx.ProblemCode(ctx); code != "route.not_found" {
		t.Errorf("noted %q", code)
	}
}
