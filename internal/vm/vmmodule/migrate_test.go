package vmmodule

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
)

// There is no other node, and the answer says so, or what else is in the way.
func TestMigrateIsRefused(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	here := *w.get(id).NodeID
	platform := w.tenant
	platform.Scope = identity.ScopePlatform
	reader := w.tenant
	reader.Permissions = []string{"vm:read", "vm:start"}
	for name, test := range map[string]struct {
		as     identity.Principal
		body   any
		status int
		code   string
	}{
		"no body":                          {w.tenant, nil, http.StatusConflict, "vm.no_other_node"},
		"no node":                          {w.tenant, object{}, http.StatusConflict, "vm.no_other_node"},
		"the node that it is on":           {w.tenant, object{"node_id": here}, http.StatusConflict, "vm.already_on_node"},
		"an absent node":                   {platform, object{"node_id": uuid.New()}, http.StatusNotFound, "scheduler.node_not_found"},
		"a node, by who may not read them": {w.tenant, object{"node_id": uuid.New()}, http.StatusForbidden, "auth.forbidden"},
		"no id":                            {w.tenant, object{"node_id": "kvm-01"}, http.StatusUnprocessableEntity, "request.invalid"},
		"an unknown field":                 {w.tenant, object{"node": here}, http.StatusUnprocessableEntity, "request.invalid"},
		"no permission":                    {reader, nil, http.StatusForbidden, "auth.forbidden"},
		"another tenant":                   {principal("*"), object{"node_id": here}, http.StatusNotFound, "vm.not_found"},
	} {
		rec := w.doAs(test.as, http.MethodPost, "/api/v1/vms/"+id.String()+"/migrate?wait=1s", test.body)
		if p := decode[errs.Problem](t, rec, test.status); p.Code != test.code || p.Retryable {
			t.Errorf("%s: %+v, want %s", name, p, test.code)
		}
	}
	if m := w.get(id); m.State != "running" || m.Generation != 1 || *m.NodeID != here {
		t.Errorf("afterwards the machine is %+v", m)
	}
}
