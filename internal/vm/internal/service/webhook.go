package service

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/safedial"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
	"github.com/novacron/novacron/internal/vm/internal/webhook"
)

// testEvent is the type of what a test sends.
const testEvent = "test"

func webhookInvalid(field, why, value string) error {
	return vm.ErrWebhookInvalid.WithField(field, why, value)
}

// mayReachInside tells whether webhooks of the caller may send to the installation's own networks: whoever administers the platform could
// do so anyway.
func mayReachInside(ctx context.Context) bool { return caller(ctx).AllowsPlatform("webhook:internal") }

// checkURL checks an address as far as that can be done before it is used.
func (s *Service) checkURL(ctx context.Context, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return webhookInvalid("body.url", "must be an address such as https://hooks.example.org/path", "")
	case u.User != nil:
		return webhookInvalid("body.url", "must hold no user or password; receivers check the signature", "")
	case u.Fragment != "":
		return webhookInvalid("body.url", "must hold no fragment, which would not be sent", "")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !mayReachInside(ctx) && !(safedial.Policy{Allow: s.cfg.WebhookAllow}).Allows(a) {
		return webhookInvalid("body.url", safedial.ErrRefused.Message, u.Hostname())
	}
	return nil
}

func checkEventTypes(types []string) error {
	if len(types) == 0 {
		return webhookInvalid("body.events", "must name at least one type, or *", "")
	}
	for i, t := range types {
		kind, all := strings.CutSuffix(t, ".*")
		if t != "*" && !slices.Contains(vm.EventTypes(), t) && !(all && slices.Contains(vm.EventKinds(), kind)) {
			return webhookInvalid(fmt.Sprintf("body.events[%d]", i), "is not a type of events", t)
		}
	}
	return nil
}

// newSecret makes a secret for a webhook.
func (s *Service) newSecret(id uuid.UUID) (sealed []byte, shown string, err error) {
	secret, shown := webhook.NewSecret()
	if sealed, err = s.box.Seal(secret, id.String()); err != nil {
		return nil, "", fmt.Errorf("seal the secret of a webhook: %w", err)
	}
	return sealed, shown, nil
}

// WebhookRequest says what webhook to make.
type WebhookRequest struct {
	Name, URL string
	Events    []string
	Disabled  bool
}

// CreateWebhook makes a webhook. Its secret is in this answer and in no other.
func (s *Service) CreateWebhook(ctx context.Context, req WebhookRequest) (vm.Webhook, error) {
	if err := checkName(req.Name, webhookInvalid); err != nil {
		return vm.Webhook{}, err
	}
	if err := s.checkURL(ctx, req.URL); err != nil {
		return vm.Webhook{}, err
	}
	if err := checkEventTypes(req.Events); err != nil {
		return vm.Webhook{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return vm.Webhook{}, fmt.Errorf("make id: %w", err)
	}
	sealed, shown, err := s.newSecret(id)
	if err != nil {
		return vm.Webhook{}, err
	}
	p := caller(ctx)
	w, err := s.store.CreateWebhook(ctx, store.NewWebhook{Sealed: sealed, Internal: mayReachInside(ctx), Webhook: vm.Webhook{ID: id, TenantID: p.TenantID, OwnerID: p.UserID,
		Name: req.Name, URL: req.URL, Events: req.Events, Enabled: !req.Disabled}})
	w.Secret = shown
	return w, err
}

// GetWebhook reads a webhook that the caller may know.
func (s *Service) GetWebhook(ctx context.Context, id uuid.UUID) (vm.Webhook, error) {
	w, err := s.store.GetWebhook(ctx, id)
	if err == nil && !readable(ctx, w.TenantID, w.OwnerID, "webhook:read") {
		return vm.Webhook{}, vm.ErrWebhookNotFound
	}
	return w, err
}

// ListWebhooks lists the webhooks of the caller's tenant, newest first.
func (s *Service) ListWebhooks(ctx context.Context, name string, after *httpx.Cursor, limit int) ([]vm.Webhook, error) {
	p := caller(ctx)
	before, beforeID := position(after)
	return s.store.ListWebhooks(ctx, p.TenantID, p.OwnerFilter("webhook:read"), name, before, beforeID, limit)
}

// webhookTo checks that the caller may do to a webhook what permission names.
func (s *Service) webhookTo(ctx context.Context, id uuid.UUID, permission string) error {
	w, err := s.store.GetWebhook(ctx, id)
	if err == nil {
		err = permitted(ctx, w.TenantID, w.OwnerID, permission, "webhook:read", vm.ErrWebhookNotFound)
	}
	return err
}

// UpdateWebhook changes a webhook. Whoever gives it another address answers for where that leads.
func (s *Service) UpdateWebhook(ctx context.Context, id uuid.UUID, c store.WebhookChange) (vm.Webhook, error) {
	if err := s.webhookTo(ctx, id, "webhook:update"); err != nil {
		return vm.Webhook{}, err
	}
	if c.Name != nil {
		if err := checkName(*c.Name, webhookInvalid); err != nil {
			return vm.Webhook{}, err
		}
	}
	if c.URL != nil {
		if err := s.checkURL(ctx, *c.URL); err != nil {
			return vm.Webhook{}, err
		}
		inside := mayReachInside(ctx)
		c.Internal = &inside
	}
	if c.Events != nil {
		if err := checkEventTypes(c.Events); err != nil {
			return vm.Webhook{}, err
		}
	}
	return s.store.UpdateWebhook(ctx, id, c)
}

// RotateWebhook gives a webhook a new secret; what is sent is signed with the old one too for so long.
func (s *Service) RotateWebhook(ctx context.Context, id uuid.UUID, overlap time.Duration) (vm.Webhook, error) {
	if err := s.webhookTo(ctx, id, "webhook:update"); err != nil {
		return vm.Webhook{}, err
	}
	sealed, shown, err := s.newSecret(id)
	if err != nil {
		return vm.Webhook{}, err
	}
	w, err := s.store.RotateWebhook(ctx, id, sealed, overlap)
	w.Secret = shown
	return w, err
}

// DeleteWebhook removes a webhook; what was to be sent is not. seen is the version that the caller has seen, nil any.
func (s *Service) DeleteWebhook(ctx context.Context, id uuid.UUID, seen *int64) error {
	if err := s.webhookTo(ctx, id, "webhook:delete"); err != nil {
		return err
	}
	return s.store.DeleteWebhook(ctx, id, seen)
}

// TestWebhook has a webhook sent something that is no event of a virtual machine.
func (s *Service) TestWebhook(ctx context.Context, id uuid.UUID) (vm.WebhookDelivery, error) {
	if err := s.webhookTo(ctx, id, "webhook:update"); err != nil {
		return vm.WebhookDelivery{}, err
	}
	deliveryID, err := uuid.NewV7()
	if err != nil {
		return vm.WebhookDelivery{}, fmt.Errorf("make id: %w", err)
	}
	payload, err := json.Marshal(event.VM{ID: deliveryID, Type: testEvent, TenantID: caller(ctx).TenantID, Timestamp: time.Now().UTC(),
		Metadata: map[string]any{"webhook_id": id}})
	if err != nil {
		return vm.WebhookDelivery{}, fmt.Errorf("encode the test: %w", err)
	}
	d, err := s.store.AddDelivery(ctx, id, deliveryID, deliveryID, testEvent, payload)
	s.due()
	return d, err
}

// ListDeliveries lists the deliveries of a webhook, newest first.
func (s *Service) ListDeliveries(ctx context.Context, id uuid.UUID, status vm.DeliveryStatus, after *httpx.Cursor, limit int) ([]vm.WebhookDelivery, error) {
	if _, err := s.GetWebhook(ctx, id); err != nil {
		return nil, err
	}
	before, beforeID := position(after)
	return s.store.ListDeliveries(ctx, id, status, before, beforeID, limit)
}

// GetDelivery reads a delivery with what is sent.
func (s *Service) GetDelivery(ctx context.Context, id, delivery uuid.UUID) (vm.WebhookDelivery, error) {
	if _, err := s.GetWebhook(ctx, id); err != nil {
		return vm.WebhookDelivery{}, err
	}
	return s.store.GetDelivery(ctx, id, delivery)
}

// Redeliver has a delivery made anew, whatever became of it.
func (s *Service) Redeliver(ctx context.Context, id, delivery uuid.UUID) (vm.WebhookDelivery, error) {
	if err := s.webhookTo(ctx, id, "webhook:update"); err != nil {
		return vm.WebhookDelivery{}, err
	}
	d, err := s.store.RepeatDelivery(ctx, id, delivery)
	s.due()
	return d, err
}
