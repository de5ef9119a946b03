package vm

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Event is a change of a virtual machine, as it was told on vm.events, or of another object, as it was told on vm.objects.
type Event struct {
	Cursor    string          `json:"cursor" doc:"Where a reader goes on after this one." example:"4711"`
	ID        uuid.UUID       `json:"id" doc:"For telling repetitions apart."`
	Type      string          `json:"type" doc:"What happened: one word of a machine, else the kind of the object before it." example:"started"`
	Object    *EventObject    `json:"object,omitempty" doc:"What it is about, where that is no machine."`
	VMID      uuid.UUID       `json:"vm_id" doc:"The machine that it is about, or that the object belongs to; all zeros where there is none."`
	TenantID  uuid.UUID       `json:"tenant_id"`
	Timestamp time.Time       `json:"timestamp"`
	Metadata  json.RawMessage `json:"metadata" doc:"Facts of the change: name, generation, node_id, and others that its type has."`
}

// EventObject names what an event is about.
type EventObject struct {
	Kind string    `json:"kind" enum:"volume,snapshot,image,network,security-group,port-forward" example:"volume"`
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name" example:"data"`
}

// The kinds of what events are about.
const (
	KindVM            = "vm"
	KindVolume        = "volume"
	KindSnapshot      = "snapshot"
	KindImage         = "image"
	KindNetwork       = "network"
	KindSecurityGroup = "security-group"
	KindPortForward   = "port-forward"
)

// EventKinds lists the kinds of what events are about.
func EventKinds() []string {
	return []string{KindVM, KindVolume, KindSnapshot, KindImage, KindNetwork, KindSecurityGroup, KindPortForward}
}

// EventTypes lists the types of events.
func EventTypes() []string {
	return []string{
		"created", "started", "stopped", "paused", "resumed", "ready", "updated", "drifted", "drift_ended", "failed", "deleted",
		"volume.created", "volume.attached", "volume.detached", "volume.resized", "volume.updated", "volume.failed", "volume.deleted",
		"snapshot.created", "snapshot.reverted", "snapshot.failed", "snapshot.deleted",
		"image.created", "image.shared", "image.updated", "image.failed", "image.deleted",
		"network.created", "network.updated", "network.failed", "network.deleted",
		"security-group.created", "security-group.updated", "security-group.deleted",
		"port-forward.created", "port-forward.deleted",
	}
}

// Webhook sends events to an address of the tenant's choice.
type Webhook struct {
	ID             uuid.UUID  `json:"id" format:"uuid"`
	Name           string     `json:"name" doc:"RFC 1123 label, unique in the tenant." example:"chat"`
	URL            string     `json:"url" example:"https://hooks.example.org/novacron"`
	Events         []string   `json:"events" nullable:"false" doc:"Types of events; volume.* is all of a kind, * is all." example:"[\"failed\"]"`
	Enabled        bool       `json:"enabled"`
	DisabledReason string     `json:"disabled_reason,omitempty" doc:"Why it was switched off by itself."`
	FailingSince   *time.Time `json:"failing_since,omitempty" doc:"Since when no delivery has succeeded."`
	Secret         string     `json:"secret,omitempty" doc:"Signs what is sent; in the answers that make a secret alone." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
	OwnerID        uuid.UUID  `json:"owner_id"`
	TenantID       uuid.UUID  `json:"tenant_id"`
	Version        int64      `json:"version" doc:"Grows with every change."`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

// DeliveryStatus tells how far a delivery is.
type DeliveryStatus string

// The statuses of a delivery.
const (
	DeliveryPending   DeliveryStatus = "pending"   // to be tried, for the first time or again
	DeliveryDelivered DeliveryStatus = "delivered" // answered with 2xx
	DeliveryDead      DeliveryStatus = "dead"      // given up
)

// WebhookDelivery is one event for one webhook, and what became of it.
type WebhookDelivery struct {
	ID             uuid.UUID       `json:"id" format:"uuid"`
	WebhookID      uuid.UUID       `json:"webhook_id"`
	EventID        uuid.UUID       `json:"event_id" doc:"Sent as Webhook-Id: the same for every attempt."`
	EventType      string          `json:"event_type" example:"started"`
	Status         DeliveryStatus  `json:"status" enum:"pending,delivered,dead"`
	Attempts       int             `json:"attempts"`
	NextAttemptAt  *time.Time      `json:"next_attempt_at,omitempty" doc:"Of a pending one."`
	ResponseStatus *int            `json:"response_status,omitempty" doc:"HTTP status of the last answer."`
	Response       string          `json:"response,omitempty" doc:"The beginning of the last answer's body."`
	Error          string          `json:"error,omitempty" doc:"Why the last attempt got no answer."`
	DurationMS     *int64          `json:"duration_ms,omitempty" doc:"How long the last attempt took."`
	Payload        json.RawMessage `json:"payload,omitempty" doc:"What is sent; where a single delivery is read."`
	CreatedAt      time.Time       `json:"created_at"`
	UpdatedAt      time.Time       `json:"updated_at"`
}

// The errors of events and webhooks.
var (
	ErrEventsGone       = errs.New(errs.Gone, "event.cursor_gone", "events after this cursor are no longer kept").WithAction("Read the objects anew, and follow events from now on: leave out since.")
	ErrEventReaders     = errs.New(errs.Throttled, "event.too_many_readers", "too many streams of events are open").WithAction("Close some, or read pages with Accept: application/json.")
	ErrWebhookNotFound  = errs.New(errs.NotFound, "webhook.not_found", "there is no such webhook")
	ErrWebhookTaken     = errs.New(errs.Conflict, "webhook.name_taken", "a webhook of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrWebhookInvalid   = errs.New(errs.Invalid, "webhook.invalid", "the webhook cannot be made as asked")
	ErrWebhookVersion   = errs.New(errs.Precondition, "webhook.version_mismatch", "the webhook has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrDeliveryNotFound = errs.New(errs.NotFound, "webhook.delivery_not_found", "there is no such delivery")
	ErrDeliveryBusy     = errs.New(errs.Conflict, "webhook.delivery_busy", "the delivery is being tried at this moment").WithRetryable(true)
)

func eventErrors() []*errs.Error {
	return []*errs.Error{ErrEventsGone, ErrEventReaders, ErrWebhookNotFound, ErrWebhookTaken, ErrWebhookInvalid, ErrWebhookVersion, ErrDeliveryNotFound, ErrDeliveryBusy}
}
