package apiclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// EventFilter picks events; empty fields do not narrow.
type EventFilter struct {
	Since string // cursor of the last event that was seen; "0": the oldest that is kept; "": from now on
	Types string // with commas between
	Kinds string // of what they are about, with commas between
	VMID  *uuid.UUID
	// ObjectID is that of what they are about, of whatever kind.
	ObjectID *uuid.UUID
}

func (f EventFilter) query() url.Values {
	query := url.Values{"since": {f.Since}, "type": {f.Types}, "kind": {f.Kinds}}
	if f.VMID != nil {
		query.Set("vm_id", f.VMID.String())
	}
	if f.ObjectID != nil {
		query.Set("object_id", f.ObjectID.String())
	}
	return query
}

// FollowEvents hands over events as they come, until ctx ends or see fails. A stream that breaks is taken up again where it was.
func (c *Client) FollowEvents(ctx context.Context, f EventFilter, see func(Object[vm.Event]) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := f.query()
	for {
		resp, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/events", query: query, accept: "text/event-stream"})
		if err != nil {
			return err
		}
		last, err := readEvents(resp, see)
		if last != "" {
			query.Set("since", last)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // the server lets streams go when it stops
		case err != nil:
			return err
		}
	}
}

// readEvents reads a stream to its end, and answers where to go on.
func readEvents(resp *http.Response, see func(Object[vm.Event]) error) (last string, err error) {
	defer resp.Body.Close()
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return "", errNoStream
	}
	events := eventReader{lines: bufio.NewReaderSize(resp.Body, 64<<10)}
	for {
		_, data, err := events.next()
		if err != nil {
			return events.lastID, err
		}
		var e Object[vm.Event]
		if err := json.Unmarshal(data, &e); err != nil {
			return last, errNoStream
		}
		if err := see(e); err != nil {
			return last, err
		}
		last = e.Value.Cursor
	}
}

// ListEvents gives the events that are kept, oldest first.
func (c *Client) ListEvents(ctx context.Context, f EventFilter) iter.Seq2[Object[vm.Event], error] {
	return func(yield func(Object[vm.Event], error) bool) {
		query := f.query()
		query.Set("limit", "500")
		for {
			var page struct {
				Items []Object[vm.Event] `json:"items"`
				Next  string             `json:"next_cursor"`
			}
			if err := c.json(ctx, call{method: http.MethodGet, path: "/api/v1/events", query: query}, &page); err != nil {
				yield(Object[vm.Event]{}, err)
				return
			}
			for _, e := range page.Items {
				if !yield(e, nil) {
					return
				}
			}
			if len(page.Items) < 500 {
				return
			}
			query.Set("since", page.Next)
		}
	}
}

// WebhookCreate is the body that creates a webhook.
type WebhookCreate struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"`
}

// WebhookUpdate is the body that changes one; nil leaves as it is.
type WebhookUpdate struct {
	URL     *string  `json:"url,omitempty"`
	Events  []string `json:"events,omitempty"`
	Enabled *bool    `json:"enabled,omitempty"`
}

func webhookPath(id uuid.UUID) string { return "/api/v1/webhooks/" + id.String() }

// ListWebhooks gives the webhooks, newest first; name may be empty, most 0.
func (c *Client) ListWebhooks(ctx context.Context, name string, most int) iter.Seq2[Object[vm.Webhook], error] {
	return list[vm.Webhook](ctx, c, "/api/v1/webhooks", url.Values{"name": {name}}, most)
}

// GetWebhook reads a webhook.
func (c *Client) GetWebhook(ctx context.Context, id uuid.UUID) (Object[vm.Webhook], error) {
	return get[vm.Webhook](ctx, c, webhookPath(id))
}

// CreateWebhook creates a webhook; the answer has its secret.
func (c *Client) CreateWebhook(ctx context.Context, body WebhookCreate) (Object[vm.Webhook], error) {
	return post[vm.Webhook](ctx, c, "/api/v1/webhooks", body)
}

// UpdateWebhook changes a webhook.
func (c *Client) UpdateWebhook(ctx context.Context, id uuid.UUID, body WebhookUpdate) (Object[vm.Webhook], error) {
	return patch[vm.Webhook](ctx, c, webhookPath(id), body)
}

// RotateWebhook gives a webhook a new secret; the old one signs too for so many seconds.
func (c *Client) RotateWebhook(ctx context.Context, id uuid.UUID, overlapSeconds int) (Object[vm.Webhook], error) {
	return post[vm.Webhook](ctx, c, webhookPath(id)+"/rotate-secret", map[string]int{"overlap_seconds": overlapSeconds})
}

// DeleteWebhook deletes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: webhookPath(id)}, nil)
}

// TestWebhook has a webhook sent a test.
func (c *Client) TestWebhook(ctx context.Context, id uuid.UUID) (Object[vm.WebhookDelivery], error) {
	return post[vm.WebhookDelivery](ctx, c, webhookPath(id)+"/test", nil)
}

// ListDeliveries gives what a webhook was sent, newest first; status may be empty, most 0.
func (c *Client) ListDeliveries(ctx context.Context, id uuid.UUID, status string, most int) iter.Seq2[Object[vm.WebhookDelivery], error] {
	return list[vm.WebhookDelivery](ctx, c, webhookPath(id)+"/deliveries", url.Values{"status": {status}}, most)
}

// Redeliver has a delivery made anew.
func (c *Client) Redeliver(ctx context.Context, id, delivery uuid.UUID) (Object[vm.WebhookDelivery], error) {
	return post[vm.WebhookDelivery](ctx, c, webhookPath(id)+"/deliveries/"+delivery.String()+"/redeliver", nil)
}
