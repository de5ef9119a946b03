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
		Description: "Looks at every node that is ready, and puts nothing right. What an operation is at work on is left out, and so is what belongs to others. " +
			"Each finding says what is done about it without being asked, and when, or why not."},
		func(ctx context.Context, _ *struct{}) (*output, error) {
			report, err := a.svc.Drift(ctx)
			return &output{Body: report}, err
		})

	type input struct{ Body vm.DriftRequest }
	type results struct{ Body vm.DriftResults }
	httpx.Handle(kit, httpx.Op{ID: "act-on-drift", Method: http.MethodPost, Path: "/api/v1/audit/drift", Permission: "node:write",
		Summary: "Put drift right now, or act on what is set aside", Tag: "drift",
		Description: "Audits, and then acts on the objects named, each for itself; the answer tells what became of each. heal applies the remedies of what is found of an object, " +
			"also before its time. restore puts a machine or volume that is set aside back to where it was, once a row knows it. reap removes what is set aside for good. All can be repeated."},
		func(ctx context.Context, in *input) (*results, error) {
			r, err := a.svc.ActOnDrift(ctx, in.Body)
			return &results{Body: r}, err
		})
}
