package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

func interval(d time.Duration) pgtype.Interval {
	return pgtype.Interval{Microseconds: d.Microseconds(), Valid: true}
}

func webhookOf(row vmdb.Webhook) vm.Webhook {
	return vm.Webhook{ID: row.ID, Name: row.Name, URL: row.Url, Events: row.Events, Enabled: row.Enabled, DisabledReason: row.DisabledReason,
		FailingSince: row.FailingSince, OwnerID: row.OwnerID, TenantID: row.TenantID, Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}
}

func webhookViolation(err error) error {
	if constraint, _ := pg.Violation(err); constraint == "webhooks_name_key" {
		return vm.ErrWebhookTaken
	}
	return pg.Map(err)
}

// NewWebhook is a webhook to be made.
type NewWebhook struct {
	vm.Webhook
	Sealed   []byte // the secret
	Internal bool   // it may reach addresses of the installation's own networks
}

// CreateWebhook writes a webhook.
func (s *Store) CreateWebhook(ctx context.Context, n NewWebhook) (vm.Webhook, error) {
	row, err := s.q.WebhookInsert(ctx, s.pool, vmdb.WebhookInsertParams{ID: n.ID, TenantID: n.TenantID, OwnerID: n.OwnerID, Name: n.Name, Url: n.URL, Events: n.Events,
		Secret: n.Sealed, Internal: n.Internal, Enabled: n.Enabled})
	if err != nil {
		return vm.Webhook{}, fmt.Errorf("insert webhook: %w", webhookViolation(err))
	}
	return webhookOf(row), nil
}

// GetWebhook reads a webhook, whichever tenant it belongs to.
func (s *Store) GetWebhook(ctx context.Context, id uuid.UUID) (vm.Webhook, error) {
	row, err := s.q.WebhookGet(ctx, s.pool, id)
	if err != nil {
		return vm.Webhook{}, fmt.Errorf("read webhook: %w", mapNoRows(err, vm.ErrWebhookNotFound))
	}
	return webhookOf(row), nil
}

// ListWebhooks lists a tenant's webhooks, newest first. An empty name stands for any.
func (s *Store) ListWebhooks(ctx context.Context, tenant uuid.UUID, owner *uuid.UUID, name string, before time.Time, beforeID uuid.UUID, limit int) ([]vm.Webhook, error) {
	rows, err := s.q.WebhookList(ctx, s.pool, vmdb.WebhookListParams{TenantID: tenant, OwnerID: owner, Name: name, AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", pg.Map(err))
	}
	list := make([]vm.Webhook, len(rows))
	for i := range rows {
		list[i] = webhookOf(rows[i])
	}
	return list, nil
}

// WebhookChange names what to change of a webhook; nil leaves as it is. Enabling one forgives what has failed.
type WebhookChange struct {
	Name, URL *string
	Internal  *bool
	Events    []string
	Enabled   *bool
	Seen      *int64 // version that the caller has seen, nil any
}

// UpdateWebhook changes a webhook.
func (s *Store) UpdateWebhook(ctx context.Context, id uuid.UUID, c WebhookChange) (vm.Webhook, error) {
	row, err := s.q.WebhookUpdate(ctx, s.pool, vmdb.WebhookUpdateParams{ID: id, Name: c.Name, Url: c.URL, Internal: c.Internal, Events: c.Events, Enabled: c.Enabled, Seen: c.Seen})
	switch {
	case errors.Is(err, pgx.ErrNoRows) && c.Seen != nil:
		return vm.Webhook{}, vm.ErrWebhookVersion
	case errors.Is(err, pgx.ErrNoRows):
		return vm.Webhook{}, vm.ErrWebhookNotFound
	case err != nil:
		return vm.Webhook{}, fmt.Errorf("update webhook: %w", webhookViolation(err))
	}
	return webhookOf(row), nil
}

// RotateWebhook gives a webhook a new secret; the old one signs too for so long.
func (s *Store) RotateWebhook(ctx context.Context, id uuid.UUID, sealed []byte, overlap time.Duration) (vm.Webhook, error) {
	row, err := s.q.WebhookRotate(ctx, s.pool, vmdb.WebhookRotateParams{ID: id, Secret: sealed, Overlap: interval(overlap)})
	if err != nil {
		return vm.Webhook{}, fmt.Errorf("rotate the secret of a webhook: %w", mapNoRows(err, vm.ErrWebhookNotFound))
	}
	return webhookOf(row), nil
}

// DeleteWebhook removes a webhook of the version that the caller has seen, nil any, with its deliveries.
func (s *Store) DeleteWebhook(ctx context.Context, id uuid.UUID, seen *int64) error {
	n, err := s.q.WebhookDelete(ctx, s.pool, vmdb.WebhookDeleteParams{ID: id, Seen: seen})
	return gone(n, err, seen, vm.ErrWebhookVersion, vm.ErrWebhookNotFound)
}

func deliveryOf(row vmdb.WebhookDelivery) vm.WebhookDelivery {
	d := vm.WebhookDelivery{ID: row.ID, WebhookID: row.WebhookID, EventID: row.EventID, EventType: row.EventType, Status: vm.DeliveryStatus(row.Status),
		Attempts: int(row.Attempts), Response: row.ResponseText, Error: row.Error, DurationMS: row.DurationMs, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}
	if row.Status == string(vm.DeliveryPending) {
		at := row.NextAttemptAt.UTC()
		d.NextAttemptAt = &at
	}
	if row.ResponseStatus != nil {
		status := int(*row.ResponseStatus)
		d.ResponseStatus = &status
	}
	return d
}

// GetDelivery reads a delivery with what is sent.
func (s *Store) GetDelivery(ctx context.Context, webhook, id uuid.UUID) (vm.WebhookDelivery, error) {
	row, err := s.q.DeliveryGet(ctx, s.pool, vmdb.DeliveryGetParams{ID: id, WebhookID: webhook})
	if err != nil {
		return vm.WebhookDelivery{}, fmt.Errorf("read delivery: %w", mapNoRows(err, vm.ErrDeliveryNotFound))
	}
	d := deliveryOf(row)
	d.Payload = row.Payload
	return d, nil
}

// ListDeliveries lists the deliveries of a webhook, newest first. An empty status stands for any.
func (s *Store) ListDeliveries(ctx context.Context, webhook uuid.UUID, status vm.DeliveryStatus, before time.Time, beforeID uuid.UUID, limit int) ([]vm.WebhookDelivery, error) {
	rows, err := s.q.DeliveryList(ctx, s.pool, vmdb.DeliveryListParams{WebhookID: webhook, Status: string(status), AfterTime: pageStart(before), AfterID: beforeID, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", pg.Map(err))
	}
	list := make([]vm.WebhookDelivery, len(rows))
	for i := range rows {
		list[i] = deliveryOf(rows[i])
	}
	return list, nil
}

// AddDelivery has something sent to a webhook that is no event of the log.
func (s *Store) AddDelivery(ctx context.Context, webhook, id, eventID uuid.UUID, eventType string, payload json.RawMessage) (vm.WebhookDelivery, error) {
	row, err := s.q.DeliveryInsert(ctx, s.pool, vmdb.DeliveryInsertParams{ID: id, WebhookID: webhook, EventID: eventID, EventType: eventType, Payload: payload})
	if constraint, _ := pg.Violation(err); constraint == "webhook_deliveries_webhook_fkey" {
		return vm.WebhookDelivery{}, vm.ErrWebhookNotFound
	}
	if err != nil {
		return vm.WebhookDelivery{}, fmt.Errorf("insert delivery: %w", pg.Map(err))
	}
	return deliveryOf(row), nil
}

// RepeatDelivery has a delivery tried anew from the beginning.
func (s *Store) RepeatDelivery(ctx context.Context, webhook, id uuid.UUID) (vm.WebhookDelivery, error) {
	row, err := s.q.DeliveryAgain(ctx, s.pool, vmdb.DeliveryAgainParams{ID: id, WebhookID: webhook})
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err := s.GetDelivery(ctx, webhook, id); err != nil {
			return vm.WebhookDelivery{}, err
		}
		return vm.WebhookDelivery{}, vm.ErrDeliveryBusy
	}
	if err != nil {
		return vm.WebhookDelivery{}, fmt.Errorf("repeat delivery: %w", pg.Map(err))
	}
	return deliveryOf(row), nil
}

// GiveOut makes deliveries of events that no webhook has been given yet, of at most most events, and tells whether there are more.
func (s *Store) GiveOut(ctx context.Context, most int) (more bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		seen, err := s.q.WebhookProgressLock(ctx, tx) // one process at a time
		if err != nil {
			return fmt.Errorf("lock the progress of webhooks: %w", err)
		}
		upTo, err := s.q.WebhookUpTo(ctx, tx, vmdb.WebhookUpToParams{After: seen, Most: int32(most)})
		if err != nil || upTo == seen {
			return err
		}
		if _, err := s.q.WebhookGiveOut(ctx, tx, vmdb.WebhookGiveOutParams{After: seen, Upto: upTo}); err != nil {
			return fmt.Errorf("make deliveries: %w", err)
		}
		more = upTo-seen >= int64(most)
		return s.q.WebhookProgressSet(ctx, tx, upTo)
	})
	return more, err
}

// Attempt is a delivery that this process has claimed.
type Attempt struct {
	ID, WebhookID, EventID uuid.UUID
	EventType              string
	Payload                []byte
	Number                 int // 1 is the first
	URL                    string
	Sealed                 [][]byte // the secrets that sign it
	Internal               bool
}

// ClaimDeliveries claims deliveries that are due for so long: at most each for one webhook, and most in all.
func (s *Store) ClaimDeliveries(ctx context.Context, claim time.Duration, each, most int) ([]Attempt, error) {
	rows, err := s.q.DeliveryClaim(ctx, s.pool, vmdb.DeliveryClaimParams{Claim: interval(claim), Each: int64(each), Most: int32(most)})
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", pg.Map(err))
	}
	list := make([]Attempt, len(rows))
	for i, row := range rows {
		list[i] = Attempt{ID: row.ID, WebhookID: row.WebhookID, EventID: row.EventID, EventType: row.EventType, Payload: row.Payload, Number: int(row.Attempts), URL: row.Url,
			Sealed: [][]byte{row.Secret}, Internal: row.Internal}
		if row.OldSecret != nil && row.OldSecretUntil != nil && time.Now().Before(*row.OldSecretUntil) {
			list[i].Sealed = append(list[i].Sealed, row.OldSecret)
		}
	}
	return list, nil
}

// Outcome is what became of an attempt.
type Outcome struct {
	Status         vm.DeliveryStatus
	Wait           time.Duration // until the next attempt
	ResponseStatus int           // 0: there was no answer
	Response       string
	Error          string
	Took           time.Duration
	// SwitchOff switches the webhook off at once, OffAfter when it has failed for longer; Reason says why.
	SwitchOff bool
	OffAfter  time.Duration
	Reason    string
}

// EndAttempt writes what became of an attempt, unless somebody else has claimed the delivery meanwhile.
func (s *Store) EndAttempt(ctx context.Context, a Attempt, o Outcome) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		n := vmdb.DeliveryDoneParams{ID: a.ID, Attempts: int32(a.Number), Status: string(o.Status), Wait: interval(o.Wait), ResponseText: o.Response, Error: o.Error}
		if o.ResponseStatus != 0 {
			status := int32(o.ResponseStatus)
			n.ResponseStatus = &status
		}
		took := o.Took.Milliseconds()
		n.DurationMs = &took
		changed, err := s.q.DeliveryDone(ctx, tx, n)
		if err != nil || changed == 0 {
			return err
		}
		if o.Status == vm.DeliveryDelivered {
			return s.q.WebhookWorks(ctx, tx, a.WebhookID)
		}
		return s.q.WebhookFailing(ctx, tx, vmdb.WebhookFailingParams{ID: a.WebhookID, NowOff: o.SwitchOff, Patience: interval(o.OffAfter), Reason: o.Reason})
	})
}

// SweepDeliveries forgets deliveries that ended longer ago, at most most of them.
func (s *Store) SweepDeliveries(ctx context.Context, retention time.Duration, most int) (int64, error) {
	n, err := s.q.DeliverySweep(ctx, s.pool, vmdb.DeliverySweepParams{Retention: interval(retention), Most: int32(most)})
	if err != nil {
		return 0, fmt.Errorf("forget deliveries: %w", pg.Map(err))
	}
	return n, nil
}

// Backlog tells how many deliveries wait, and how old the oldest of them is.
func (s *Store) Backlog(ctx context.Context) (waiting int64, oldest time.Duration, err error) {
	row, err := s.q.DeliveryBacklog(ctx, s.pool)
	if err != nil {
		return 0, 0, fmt.Errorf("count deliveries: %w", pg.Map(err))
	}
	return row.Waiting, time.Duration(row.OldestSeconds * float64(time.Second)), nil
}
