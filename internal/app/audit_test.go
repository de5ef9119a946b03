package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

// TestEveryChangeLeavesAnAuditRecord walks all routes. Each that changes something, and each that hands out or shows what is delicate, must be one
// whose calls are recorded; and while no record can be made, as before the start, none of them may reach its handler.
func TestEveryChangeLeavesAnAuditRecord(t *testing.T) {
	delicate := map[string]bool{"audit-export": true, "audit-verify": true, "vm-console-connect": true}
	// Modules that answer before their routes do while they have not started; their own tests see records.
	early := map[string]bool{"vm": true}
	changes := 0
	for _, s := range built(t).gateway.Surfaces() {
		for _, r := range s.Routes() {
			mutating := r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
			if delicate[r.OperationID] {
				delete(delicate, r.OperationID)
				mutating = true
			}
			if !mutating {
				continue
			}
			changes++
			if !r.Audited {
				t.Errorf("%s: calls of %s %s leave no audit record", s.Name(), r.Method, r.Path)
			}
			path := r.Path
			for strings.Contains(path, "{") {
				from, to := strings.Index(path, "{"), strings.Index(path, "}")
				path = path[:from] + uuid.NewString() + path[to+1:]
			}
			req := httptest.NewRequestWithContext(t.Context(), r.Method, path, strings.NewReader("{}"))
			req.Header.Set("Content-Type", "application/json")
			p := identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), SessionID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopePlatform}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, req.WithContext(identity.With(req.Context(), p)))
			var problem errs.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
				t.Errorf("%s %s: %s: %v", r.Method, r.Path, w.Body, err)
			}
			if problem.Code != audit.ErrUnavailable.Code && (!early[s.Name()] || w.Code != http.StatusServiceUnavailable) {
				t.Errorf("%s %s got past the audit trail, which is not there: %d %s", r.Method, r.Path, w.Code, problem.Code)
			}
		}
	}
	if changes < 30 || len(delicate) > 0 {
		t.Errorf("only %d routes that change something; not found: %v", changes, delicate)
	}
}
