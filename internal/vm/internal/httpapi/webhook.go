package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

func (a *API) registerWebhooks(kit *httpx.API) {
	const all, one = "/api/v1/webhooks", "/api/v1/webhooks/{id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the webhook."`
	}
	type WebhookCreate struct {
		Name    string   `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"chat"`
		URL     string   `json:"url" minLength:"1" maxLength:"2048" doc:"Where to POST events to. Redirects are not followed. It must have a public address, unless the installation allows others." example:"https://hooks.example.org/novacron"`
		Events  []string `json:"events,omitempty" maxItems:"32" doc:"Types of events, or kinds such as volume.*; default: all, which is *."`
		Enabled *bool    `json:"enabled,omitempty" default:"true"`
	}
	type output struct {
		Status       int
		Location     string `header:"Location"`
		ETag         string `header:"ETag"`
		CacheControl string `header:"Cache-Control"`
		Body         vm.Webhook
	}
	shown := func(status int, w vm.Webhook) *output {
		out := &output{Status: status, ETag: versionTag(w.Version), Body: w}
		if w.Secret != "" {
			out.CacheControl = "no-store"
		}
		if status == http.StatusCreated {
			out.Location = all + "/" + w.ID.String()
		}
		return out
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-create", Method: http.MethodPost, Path: all, Permission: "webhook:create", Owned: true,
		Summary: "Have events sent to an address", Tag: "webhooks", Status: http.StatusCreated,
		Description: "The answer has the secret that signs what is sent; no other answer has. Events from now on are sent.",
		Errors:      []*errs.Error{vm.ErrWebhookInvalid, vm.ErrWebhookTaken}},
		func(ctx context.Context, in *struct{ Body WebhookCreate }) (*output, error) {
			req := service.WebhookRequest{Name: in.Body.Name, URL: in.Body.URL, Events: in.Body.Events, Disabled: in.Body.Enabled != nil && !*in.Body.Enabled}
			if req.Events == nil {
				req.Events = []string{"*"}
			}
			w, err := a.svc.CreateWebhook(ctx, req)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusCreated, w), nil
		})
	type listOutput struct{ Body httpx.Page[vm.Webhook] }
	httpx.Handle(kit, httpx.Op{ID: "webhook-list", Method: http.MethodGet, Path: all, Permission: "webhook:read", Owned: true,
		Summary: "List webhooks, newest first", Tag: "webhooks", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *NamedPage) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(w vm.Webhook) httpx.Cursor { return httpx.Cursor{CreatedAt: w.CreatedAt, ID: w.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Webhook, error) {
					return a.svc.ListWebhooks(ctx, in.Name, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "webhook-get", Method: http.MethodGet, Path: one, Permission: "webhook:read", Owned: true,
		Summary: "Read a webhook", Tag: "webhooks", Errors: []*errs.Error{vm.ErrWebhookNotFound}},
		func(ctx context.Context, in *Path) (*output, error) {
			w, err := a.svc.GetWebhook(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, w), nil
		})
	type WebhookUpdate struct {
		Name    *string  `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		URL     *string  `json:"url,omitempty" minLength:"1" maxLength:"2048"`
		Events  []string `json:"events,omitempty" maxItems:"32"`
		Enabled *bool    `json:"enabled,omitempty" doc:"true also forgives what has failed."`
	}
	type updateInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    WebhookUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-update", Method: http.MethodPatch, Path: one, Permission: "webhook:update", Owned: true,
		Summary: "Change a webhook", Tag: "webhooks", Description: "What happens while it is disabled is not sent later; what was to be sent before, is.",
		Errors: []*errs.Error{vm.ErrWebhookNotFound, vm.ErrWebhookInvalid, vm.ErrWebhookTaken, vm.ErrWebhookVersion}},
		func(ctx context.Context, in *updateInput) (*output, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrWebhookVersion)
			if err != nil {
				return nil, err
			}
			w, err := a.svc.UpdateWebhook(ctx, in.ID, store.WebhookChange{Name: in.Body.Name, URL: in.Body.URL, Events: in.Body.Events, Enabled: in.Body.Enabled, Seen: seen})
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, w), nil
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-delete", Method: http.MethodDelete, Path: one, Permission: "webhook:delete", Owned: true,
		Summary: "Delete a webhook with its deliveries", Tag: "webhooks", Status: http.StatusNoContent, Errors: []*errs.Error{vm.ErrWebhookNotFound, vm.ErrWebhookVersion}},
		func(ctx context.Context, in *deleteInput) (*noContent, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrWebhookVersion)
			if err != nil {
				return nil, err
			}
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteWebhook(ctx, in.ID, seen)
		})
	type WebhookRotate struct {
		OverlapSeconds int `json:"overlap_seconds" minimum:"0" maximum:"604800" doc:"So long what is sent is signed with the old secret, too. Without a body: a day."`
	}
	type rotateInput struct {
		Path
		Body *WebhookRotate `required:"false"`
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-rotate-secret", Method: http.MethodPost, Path: one + "/rotate-secret", Permission: "webhook:update", Owned: true,
		Summary: "Give a webhook a new secret", Tag: "webhooks", Errors: []*errs.Error{vm.ErrWebhookNotFound}},
		func(ctx context.Context, in *rotateInput) (*output, error) {
			overlap := 24 * time.Hour
			if in.Body != nil {
				overlap = time.Duration(in.Body.OverlapSeconds) * time.Second
			}
			w, err := a.svc.RotateWebhook(ctx, in.ID, overlap)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, w), nil
		})
	a.registerDeliveries(kit)
}

func (a *API) registerDeliveries(kit *httpx.API) {
	const hook = "/api/v1/webhooks/{id}"
	const all, one = hook + "/deliveries", hook + "/deliveries/{delivery_id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the webhook."`
	}
	type DeliveryPath struct {
		Path
		DeliveryID uuid.UUID `path:"delivery_id" format:"uuid" doc:"Id of the delivery."`
	}
	type output struct {
		Status int
		Body   vm.WebhookDelivery
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-test", Method: http.MethodPost, Path: hook + "/test", Permission: "webhook:update", Owned: true,
		Summary: "Send a webhook an event of type test", Tag: "webhooks", Status: http.StatusAccepted, Errors: []*errs.Error{vm.ErrWebhookNotFound},
		Description: "Answers with the delivery, which tells what became of it. One that is disabled is not sent anything before it is enabled."},
		func(ctx context.Context, in *Path) (*output, error) {
			d, err := a.svc.TestWebhook(ctx, in.ID)
			return &output{Status: http.StatusAccepted, Body: d}, err
		})
	type listInput struct {
		Path
		httpx.PageParams
		Status vm.DeliveryStatus `query:"status" enum:"pending,delivered,dead" doc:"Only those."`
	}
	type listOutput struct {
		Body httpx.Page[vm.WebhookDelivery]
	}
	httpx.Handle(kit, httpx.Op{ID: "webhook-delivery-list", Method: http.MethodGet, Path: all, Permission: "webhook:read", Owned: true,
		Summary: "List what a webhook was sent, newest first", Tag: "webhooks", Errors: []*errs.Error{vm.ErrWebhookNotFound, httpx.ErrCursor},
		Description: "Deliveries that ended are kept for 30 days."},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(d vm.WebhookDelivery) httpx.Cursor { return httpx.Cursor{CreatedAt: d.CreatedAt, ID: d.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.WebhookDelivery, error) {
					return a.svc.ListDeliveries(ctx, in.ID, in.Status, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "webhook-delivery-get", Method: http.MethodGet, Path: one, Permission: "webhook:read", Owned: true,
		Summary: "Read a delivery with what was sent", Tag: "webhooks", Errors: []*errs.Error{vm.ErrWebhookNotFound, vm.ErrDeliveryNotFound}},
		func(ctx context.Context, in *DeliveryPath) (*output, error) {
			d, err := a.svc.GetDelivery(ctx, in.ID, in.DeliveryID)
			return &output{Status: http.StatusOK, Body: d}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "webhook-redeliver", Method: http.MethodPost, Path: one + "/redeliver", Permission: "webhook:update", Owned: true,
		Summary: "Make a delivery anew", Tag: "webhooks", Status: http.StatusAccepted, Errors: []*errs.Error{vm.ErrWebhookNotFound, vm.ErrDeliveryNotFound, vm.ErrDeliveryBusy}},
		func(ctx context.Context, in *DeliveryPath) (*output, error) {
			d, err := a.svc.Redeliver(ctx, in.ID, in.DeliveryID)
			return &output{Status: http.StatusAccepted, Body: d}, err
		})
}
