package bus

import (
	"context"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Message is what travels: a subject, an encoded payload and, for a request, where the reply goes.
// Payloads are encoded before they are published, so no two modules ever share memory through the bus. The publisher may use its buffer
// and header again as soon as Publish or Request returns. What a handler is given may be shared with the handlers of other
// subscriptions: it may keep Data and Header, but must never change them.
type Message struct {
	Subject string
	Reply   string            // empty unless the publisher waits for an answer
	Header  map[string]string // trace context and the like; never secrets
	Data    []byte
}

// Handler receives the messages of one subscription, one at a time and in order of arrival.
// The context ends when the subscription does, or the bus. A handler may use the bus. If it panics, that is logged and the next message
// is handled.
type Handler func(ctx context.Context, m Message)

// GapHandler is told how many messages a subscription lost because its queue was full. It never runs beside the subscription's handler,
// and always before the first message that follows the gap; it may be told of one gap in several parts.
type GapHandler func(ctx context.Context, lost uint64)

// SubscribeOptions changes how a subscription behaves. The zero value is a plain one.
type SubscribeOptions struct {
	Queue    string     // members of one queue group share the messages: each message goes to one of them
	Capacity int        // how many messages may wait; 0 means DefaultCapacity
	OnGap    GapHandler // told of messages lost to a full queue; nil means that they are only counted
}

// DefaultCapacity is how many messages wait for a slow subscriber before newer ones are dropped for it.
const DefaultCapacity = 1024

// Subscription is a live interest in a subject.
type Subscription interface {
	// Close ends it: no message that still waits is handled, and the context of one that is running ends. It does not wait for that one,
	// so a handler may close its own subscription. It is idempotent.
	Close()
}

// Bus carries messages between modules. It has NATS semantics: subjects are dot-separated tokens, in a subscription "*" stands for
// one token and ">" for one or more at the end; delivery is at most once per subscription; a publisher never waits for a
// subscriber.
type Bus interface {
	// Publish hands the message to every matching subscription, and to one member of each matching queue group. Messages of one
	// publisher arrive in the order in which it published them. It fails on an invalid subject or a closed bus.
	Publish(ctx context.Context, m Message) error
	// Request publishes, with a reply subject of its own under "_INBOX.", and waits for the first reply. Without any subscriber it
	// fails at once with ErrNoResponders; when ctx ends first, with ErrTimeout around the context's error; when the bus is closed,
	// with ErrClosed.
	Request(ctx context.Context, m Message) (Message, error)
	// Subscribe starts to deliver matching messages to h: what is published through this bus once it has returned arrives. It fails on
	// an invalid pattern or queue group, with ErrInvalidSubject, and on a closed bus.
	Subscribe(subject string, opts SubscribeOptions, h Handler) (Subscription, error)
	// Close ends every subscription and waits until no handler runs; messages that still wait are dropped. It is idempotent, and never
	// called by a handler.
	Close() error
}

// The errors of a bus.
var (
	ErrInvalidSubject = errs.New(errs.Invalid, "bus.invalid_subject", "the subject is not a valid NATS subject")
	ErrNoResponders   = errs.New(errs.Unavailable, "bus.no_responders", "nobody listens on the subject")
	ErrTimeout        = errs.New(errs.Deadline, "bus.timeout", "no reply came in time")
	ErrClosed         = errs.New(errs.Unavailable, "bus.closed", "the bus is closed")
	// ErrBadRequest answers a request whose payload cannot be decoded.
	ErrBadRequest = errs.New(errs.Malformed, "bus.bad_request", "the request cannot be decoded; caller and server are of different versions")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrInvalidSubject, ErrNoResponders, ErrTimeout, ErrClosed, ErrBadRequest}
}
