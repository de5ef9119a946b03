package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// VMListParams narrow and order the list of virtual machines.
type VMListParams struct {
	Limit      int      `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many items to answer at most."`
	Cursor     string   `query:"cursor" maxLength:"512" doc:"Where to go on: next_cursor of the page before, with the same filters and order."`
	Sort       string   `query:"sort" enum:"-created_at,created_at,name,-name" default:"-created_at" doc:"The order; '-' turns it round."`
	Fields     string   `query:"fields" maxLength:"512" pattern:"^[a-z0-9_]+(,[a-z0-9_]+)*$" doc:"Answer only these fields of each item." example:"id,name,state"`
	Count      bool     `query:"count" doc:"Count those on all pages, too. It costs time on long lists."`
	Name       string   `query:"name" maxLength:"63" doc:"Only the one of this name."`
	NamePrefix string   `query:"name_prefix" maxLength:"63" doc:"Only those whose names begin so."`
	State      string   `query:"state" enum:"creating,running,stopped,paused,migrating,error" doc:"Only those in this state."`
	Tag        []string `query:"tag,explode" maxItems:"8" doc:"Only those with this tag: 'key=value', or 'key' for any value. Given more than once: only those with all of them." example:"env=prod"`
	NodeID     string   `query:"node_id" format:"uuid" doc:"Only those on this node."`
	ImageID    string   `query:"image_id" format:"uuid" doc:"Only those made from this image."`
	OwnerID    string   `query:"owner_id" format:"uuid" doc:"Only those of this user."`
	NetworkID  string   `query:"network_id" format:"uuid" doc:"Only those that are connected to this network."`
	Q          string   `query:"q" maxLength:"128" doc:"Only those in whose name, description or tags words begin so."`
	TenantID   string   `query:"tenant_id" enum:"all" doc:"'all' lists every tenant's; needs the permission on the platform."`
}

func (p VMListParams) request() (service.ListRequest, error) {
	req := service.ListRequest{AllTenants: p.TenantID == "all", Count: p.Count, Filter: store.Filter{Name: p.Name, NamePrefix: p.NamePrefix,
		State: vm.State(p.State), Text: p.Q, Sort: store.Sort(p.Sort), Limit: p.Limit + 1}}
	for _, id := range []struct {
		text string
		into **uuid.UUID
	}{{p.NodeID, &req.Filter.NodeID}, {p.ImageID, &req.Filter.ImageID}, {p.OwnerID, &req.Filter.Owner}, {p.NetworkID, &req.Filter.NetworkID}} {
		if id.text == "" {
			continue
		}
		parsed, err := uuid.Parse(id.text)
		if err != nil { // cannot happen: the format has been checked
			return req, vm.ErrInvalid.Wrap(err)
		}
		*id.into = &parsed
	}
	tags, err := tagsOf(p.Tag, vm.ErrInvalid)
	if err != nil {
		return req, err
	}
	req.Filter.Tags = tags
	after, err := httpx.ParseCursor(p.Cursor)
	if err != nil || after == nil {
		return req, err
	}
	if after.Sort != p.Sort {
		return req, httpx.ErrCursor
	}
	req.Filter.After = &store.After{CreatedAt: after.CreatedAt, Name: after.Name, ID: after.ID}
	return req, nil
}

func (a *API) registerVMList(kit *httpx.API) {
	type listInput struct{ VMListParams }
	type listOutput struct{ Body httpx.Page[vm.VM] }
	httpx.Handle(kit, httpx.Op{ID: "vm-list", Method: http.MethodGet, Path: "/api/v1/vms", Permission: "vm:read", Owned: true,
		Summary: "List and search virtual machines", Tag: "vms", Description: "All filters combine.",
		Errors: []*errs.Error{httpx.ErrCursor, vm.ErrInvalid}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			req, err := in.request()
			if err != nil {
				return nil, err
			}
			vms, count, err := a.svc.List(ctx, req)
			if err != nil {
				return nil, err
			}
			page := httpx.PageOf(vms, in.Limit, func(m vm.VM) httpx.Cursor {
				return httpx.Cursor{CreatedAt: m.CreatedAt, ID: m.ID, Sort: in.Sort, Name: m.Name}
			})
			page.Count = count
			return &listOutput{Body: page}, nil
		})

	type historyInput struct {
		VMPath
		httpx.PageParams
	}
	type historyOutput struct{ Body httpx.Page[vm.HistoryItem] }
	httpx.Handle(kit, httpx.Op{ID: "vm-history", Method: http.MethodGet, Path: "/api/v1/vms/{id}/history", Permission: "vm:read", Owned: true,
		Summary: "List the operations on a virtual machine and the changes that it went through, newest first", Tag: "vms",
		Description: "It goes with the machine; changes are kept for 90 days, operations as long as the list of operations keeps them.",
		Errors:      []*errs.Error{vm.ErrNotFound, httpx.ErrCursor}},
		func(ctx context.Context, in *historyInput) (*historyOutput, error) {
			after, err := httpx.ParseCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			items, err := a.svc.History(ctx, in.ID, after, in.Limit+1)
			if err != nil {
				return nil, err
			}
			return &historyOutput{Body: httpx.PageOf(items, in.Limit, func(i vm.HistoryItem) httpx.Cursor { return httpx.Cursor{CreatedAt: i.At, ID: i.ID} })}, nil
		})
}

// tagsOf reads the tags that a list is narrowed to.
func tagsOf(texts []string, invalid *errs.Error) (tags []store.Tag, err error) {
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if key == "" || len(text) > 386 {
			return nil, invalid.WithField("query.tag", "must be 'key=value' or 'key'", text)
		}
		tag := store.Tag{Key: key}
		if ok {
			tag.Value = &value
		}
		tags = append(tags, tag)
	}
	return tags, nil
}
