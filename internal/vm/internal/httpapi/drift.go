package httpapi

import (
	"context"
	"net/http"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
)

func (a *API) registerDrift(kit *httpx.API) {
	type output struct{ Body vm.DriftReport }
	httpx.Handle(kit, httpx.Op{ID: "audit-drift", Method: http.MethodGet, Path: "/api/v1/audit/drift", Permission: "node:read",
		Summary: "Compare what should be with what nodes and scheduler hold", Tag: "drift",
		Description: "Looks at every node that is ready, and changes nothing. What an operation is at work on is left out, and so is what belongs to others."},
		func(ctx context.Context, _ *struct{}) (*output, error) {
			report, err := a.svc.Drift(ctx)
			return &output{Body: report}, err
		})
}
