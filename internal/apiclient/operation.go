package apiclient

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Operation is a slow change that the server carries out.
type Operation struct {
	ID              uuid.UUID     `json:"id"`
	Kind            string        `json:"kind"`
	TargetID        uuid.UUID     `json:"target_id"`
	RequestedBy     uuid.UUID     `json:"requested_by"`
	Status          string        `json:"status"`
	Progress        int           `json:"progress"` // percent
	Steps           []Step        `json:"steps"`
	Error           *errs.Problem `json:"error,omitempty"`
	CancelRequested bool          `json:"cancel_requested"`
	CreatedAt       time.Time     `json:"created_at"`
	StartedAt       *time.Time    `json:"started_at,omitempty"`
	EndedAt         *time.Time    `json:"ended_at,omitempty"`
}

// Step is one step of an operation.
type Step struct {
	Name      string        `json:"name"`
	Status    string        `json:"status"`
	StartedAt *time.Time    `json:"started_at,omitempty"`
	EndedAt   *time.Time    `json:"ended_at,omitempty"`
	Attempts  int           `json:"attempts"`
	Error     *errs.Problem `json:"error,omitempty"`
}

// The statuses of an operation; the last three are ends.
const (
	OperationPending   = "pending"
	OperationRunning   = "running"
	OperationSucceeded = "succeeded"
	OperationFailed    = "failed"
	OperationCanceled  = "canceled"
)

// Ended tells whether nothing will change any more.
func (o Operation) Ended() bool {
	return o.Status == OperationSucceeded || o.Status == OperationFailed || o.Status == OperationCanceled
}

// Err gives an *OperationError where the operation has ended without success.
func (o Operation) Err() error {
	if !o.Ended() || o.Status == OperationSucceeded {
		return nil
	}
	return &OperationError{Operation: o}
}

// OperationFilter narrows a list; empty fields do not.
type OperationFilter struct {
	TargetID string
	Kind     string
	Status   string
	Most     int // items; 0: all
}

// ListOperations gives the operations, newest first.
func (c *Client) ListOperations(ctx context.Context, f OperationFilter) iter.Seq2[Object[Operation], error] {
	return list[Operation](ctx, c, "/api/v1/operations", url.Values{"target_id": {f.TargetID}, "kind": {f.Kind}, "status": {f.Status}}, f.Most)
}

// GetOperation reads an operation.
func (c *Client) GetOperation(ctx context.Context, id uuid.UUID) (Object[Operation], error) {
	return get[Operation](ctx, c, "/api/v1/operations/"+id.String())
}

// CancelOperation asks for the end of an operation, which then undoes what it did.
func (c *Client) CancelOperation(ctx context.Context, id uuid.UUID) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/operations/"+id.String()+"/cancel", nil)
}

// FollowOperation waits for the end of an operation and tells of every change on the way; changed may be nil. It outlives interruptions
// of the connection and restarts of the server, up to Config.Patience each. How the operation ended is in the answer, not in the error.
func (c *Client) FollowOperation(ctx context.Context, id uuid.UUID, changed func(Object[Operation])) (Object[Operation], error) {
	f := &following{client: c, id: id, changed: changed, lastSeen: c.now(), next: c.streamOperation}
	for pause := firstPause; ; {
		before := f.lastSeen
		err := f.next(ctx, f)
		switch {
		case ctx.Err() != nil:
			return f.last, ended(ctx)
		case f.last.Value.Ended():
			return f.last, nil
		case noStream(err):
			f.next = c.pollOperation
			continue
		case err != nil && !passing(err):
			return f.last, err
		case err != nil && c.now().Sub(f.lastSeen) > c.cfg.Patience:
			return f.last, err
		}
		if f.lastSeen.After(before) {
			pause = firstPause
		}
		if err := sleep(ctx, pause); err != nil {
			return f.last, ended(ctx)
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// following is how far a follower has come.
type following struct {
	client   *Client
	id       uuid.UUID
	changed  func(Object[Operation])
	next     func(context.Context, *following) error
	last     Object[Operation]
	lastSeen time.Time // when the server was heard last
}

func (f *following) saw(op Object[Operation]) {
	f.lastSeen = f.client.now()
	if string(f.last.Raw) != string(op.Raw) && f.changed != nil {
		f.changed(op)
	}
	f.last = op
}

// errNoStream is an answer to a request for events that is no stream of events.
var errNoStream = errors.New("the server sends no events")

// noStream tells whether the server, or a proxy in between, does not do events, so that it has to be asked.
func noStream(err error) bool {
	var e *Error
	return errors.Is(err, errNoStream) || errors.As(err, &e) && e.Code != "operation.not_found" &&
		(e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotAcceptable || e.Status == http.StatusNotImplemented)
}

// passing tells whether a failure may go away without anybody's doing.
func passing(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == 0 && e.Code != CodeProtocol || e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests)
}

// pollWait is how long the server is to hold an answer; progress is seen no later than that.
const pollWait = "2s"

// pollOperation asks once, for as long as pollWait.
func (c *Client) pollOperation(ctx context.Context, f *following) error {
	var op Object[Operation]
	err := c.json(ctx, call{method: http.MethodGet, path: "/api/v1/operations/" + f.id.String(), query: url.Values{"wait": {pollWait}}}, &op)
	if err == nil {
		f.saw(op)
	}
	return err
}
