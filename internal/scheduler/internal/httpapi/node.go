package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
)

// NodePath names a node. It is exported because huma passes over embedded fields that are not.
type NodePath struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the node."`
}

type nodeOutput struct {
	ETag string `header:"ETag"`
	Body scheduler.Node
}

func nodeAnswer(n scheduler.Node, err error) (*nodeOutput, error) {
	if err != nil {
		return nil, err
	}
	return &nodeOutput{ETag: etag(n.Revision), Body: n}, nil
}

func (a *API) registerNodes(kit *httpx.API) {
	type listInput struct{ httpx.PageParams }
	type listOutput struct{ Body httpx.Page[scheduler.Node] }
	httpx.Handle(kit, httpx.Op{ID: "node-list", Method: http.MethodGet, Path: "/api/v1/nodes", Permission: service.PermissionNodeRead,
		Summary: "List hypervisor nodes, the latest registered first", Tag: "nodes", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := position(in.Cursor)
			if err != nil {
				return nil, err
			}
			resp, err := a.svc.ListNodes(ctx, scheduler.ListNodesRequest{After: after, Limit: in.Limit + 1})
			if err != nil {
				return nil, err
			}
			return &listOutput{Body: httpx.PageOf(resp.Nodes, in.Limit, func(n scheduler.Node) httpx.Cursor {
				return httpx.Cursor{CreatedAt: n.RegisteredAt, ID: n.ID}
			})}, nil
		})

	httpx.Handle(kit, httpx.Op{ID: "node-get", Method: http.MethodGet, Path: "/api/v1/nodes/{id}", Permission: service.PermissionNodeRead,
		Summary: "Read a hypervisor node", Tag: "nodes", Errors: []*errs.Error{scheduler.ErrNodeNotFound}},
		func(ctx context.Context, in *NodePath) (*nodeOutput, error) {
			resp, err := a.svc.GetNode(ctx, scheduler.GetNodeRequest{NodeID: in.ID})
			return nodeAnswer(resp.Node, err)
		})

	a.registerNodeChanges(kit)
}

func (a *API) registerNodeChanges(kit *httpx.API) {
	const write = "node:write"
	type patchInput struct {
		NodePath
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the revision that is to be changed."`
		Body    struct {
			Labels map[string]*string `json:"labels" doc:"Merged into the node's labels; null removes one. At most 64 of them, names to 63 bytes, values to 255." example:"{\"rack\": \"b7\", \"old\": null}"`
		}
	}
	httpx.Handle(kit, httpx.Op{ID: "node-update", Method: http.MethodPatch, Path: "/api/v1/nodes/{id}", Permission: write,
		Summary: "Change the labels of a node", Tag: "nodes",
		Errors: []*errs.Error{scheduler.ErrNodeNotFound, scheduler.ErrVersion, scheduler.ErrInvalid}},
		func(ctx context.Context, in *patchInput) (*nodeOutput, error) {
			return nodeAnswer(a.svc.UpdateNode(ctx, in.ID, store.NodeChange{Revision: ifMatch(in.IfMatch), Labels: in.Body.Labels}))
		})

	cordon := func(id, verb, summary string, cordoned bool) {
		httpx.Handle(kit, httpx.Op{ID: id, Method: http.MethodPost, Path: "/api/v1/nodes/{id}/" + verb, Permission: write,
			Summary: summary, Tag: "nodes", Errors: []*errs.Error{scheduler.ErrNodeNotFound}},
			func(ctx context.Context, in *NodePath) (*nodeOutput, error) {
				return nodeAnswer(a.svc.UpdateNode(ctx, in.ID, store.NodeChange{Cordoned: &cordoned}))
			})
	}
	cordon("node-cordon", "cordon", "Place no new machines on a node; those on it stay", true)
	cordon("node-uncordon", "uncordon", "Place machines on a node again", false)
}
