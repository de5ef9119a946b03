package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// Operation is how a durable operation is shown.
type Operation struct {
	ID              uuid.UUID        `json:"id"`
	Kind            string           `json:"kind" example:"vm.create"`
	TargetID        uuid.UUID        `json:"target_id" doc:"The object it works on."`
	TenantID        uuid.UUID        `json:"tenant_id"`
	RequestedBy     uuid.UUID        `json:"requested_by"`
	Generation      int64            `json:"generation"`
	Status          string           `json:"status" enum:"pending,running,succeeded,failed,canceled"`
	Progress        int              `json:"progress" minimum:"0" maximum:"100" doc:"Percent."`
	Steps           []Step           `json:"steps" nullable:"false"`
	Error           *errs.Problem    `json:"error,omitempty"`
	Result          *service.Resized `json:"result,omitempty" doc:"Of a resize that succeeded: whether the guest has taken it up."`
	CancelRequested bool             `json:"cancel_requested"`
	CreatedAt       time.Time        `json:"created_at"`
	StartedAt       *time.Time       `json:"started_at,omitempty"`
	EndedAt         *time.Time       `json:"ended_at,omitempty"`
	UpdatedAt       time.Time        `json:"updated_at"`
}

// Step is one step of an operation.
type Step struct {
	Name      string        `json:"name" example:"disk"`
	Status    string        `json:"status" enum:"pending,running,succeeded,failed,undone,skipped"`
	StartedAt *time.Time    `json:"started_at,omitempty"`
	EndedAt   *time.Time    `json:"ended_at,omitempty"`
	Attempts  int           `json:"attempts"`
	Error     *errs.Problem `json:"error,omitempty"`
}

func viewOf(op operation.Operation) Operation {
	view := Operation{ID: op.ID, Kind: op.Kind, TargetID: op.TargetID, TenantID: op.TenantID, RequestedBy: op.RequestedBy,
		Generation: op.Generation, Status: string(op.Status), Progress: op.Progress, Steps: []Step{}, Error: problemOf(op.Error), Result: resultOf(op),
		CancelRequested: op.CancelRequested, CreatedAt: op.CreatedAt.UTC(), StartedAt: op.StartedAt, EndedAt: op.EndedAt, UpdatedAt: op.UpdatedAt.UTC()}
	for _, step := range op.Steps {
		view.Steps = append(view.Steps, Step{Name: step.Name, Status: step.Status, StartedAt: step.StartedAt, EndedAt: step.EndedAt,
			Attempts: step.Attempts, Error: problemOf(step.Error)})
	}
	return view
}

func problemOf(e *errs.Error) *errs.Problem {
	if e == nil {
		return nil
	}
	return errs.ProblemOf(e, "", "")
}

// WaitParams let a client hold the answer until the operation has ended.
type WaitParams struct {
	Wait   string `query:"wait" pattern:"^[0-9]{1,4}(s|m)?$" doc:"Hold the answer until the operation has ended or this time is up, 5 minutes at most." example:"30s"`
	Prefer string `header:"Prefer" maxLength:"256" doc:"wait=N, in seconds, does the same (RFC 7240)."`
}

var preferWait = regexp.MustCompile(`(?:^|[,;\s])wait=([0-9]{1,4})(?:$|[,;\s])`)

func (p WaitParams) duration() time.Duration {
	text := p.Wait
	if text == "" {
		if m := preferWait.FindStringSubmatch(p.Prefer); m != nil {
			text = m[1]
		}
	}
	if text == "" {
		return 0
	}
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil { // cannot happen: the pattern has been checked
		return 0
	}
	return min(d, vm.MaxWait)
}

// applied is the header that tells a client that its preference was heeded; an empty one is not sent. The parameter goes before it.
func (p WaitParams) applied() string {
	if p.Wait != "" || !preferWait.MatchString(p.Prefer) {
		return ""
	}
	return fmt.Sprintf("wait=%d", int(p.duration().Seconds()))
}

// accepted is the answer of every request that begins an operation.
type accepted struct {
	Status   int
	Location string `header:"Location" doc:"Where the operation is found."`
	Applied  string `header:"Preference-Applied" doc:"wait=N where Prefer asked for it (RFC 7240); N is less where it asked for more than there is."`
	Body     Operation
}

// answer waits as long as the client asked for: 200 and the ended operation, or 202 and where to look.
func (a *API) answer(ctx context.Context, op operation.Operation, p WaitParams) (*accepted, error) {
	op, err := a.svc.Await(ctx, op, p.duration())
	if err != nil {
		return nil, err
	}
	out := &accepted{Status: http.StatusAccepted, Location: "/api/v1/operations/" + op.ID.String(), Applied: p.applied(), Body: viewOf(op)}
	if p.duration() > 0 && op.EndedAt != nil {
		out.Status = http.StatusOK
	}
	return out, nil
}

type operationOutput struct {
	Applied string `header:"Preference-Applied"`
	Body    Operation
}

type OperationPath struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the operation."`
}

func (a *API) registerOperations(kit *httpx.API) {
	type listInput struct {
		httpx.PageParams
		TargetID string `query:"target_id" format:"uuid" doc:"Only those on this object."`
		Kind     string `query:"kind" maxLength:"64" doc:"Only those of this kind." example:"vm.create"`
		Status   string `query:"status" enum:"pending,running,succeeded,failed,canceled" doc:"Only those of this status."`
	}
	type listOutput struct{ Body httpx.Page[Operation] }
	httpx.Handle(kit, httpx.Op{ID: "operation-list", Method: http.MethodGet, Path: "/api/v1/operations", Permission: "operation:read", Owned: true,
		Summary: "List operations, newest first", Tag: "operations", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := httpx.ParseCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			f := operation.Filter{Kind: in.Kind, Status: operation.Status(in.Status), Limit: in.Limit + 1}
			if after != nil {
				f.After = &operation.Cursor{CreatedAt: after.CreatedAt, ID: after.ID}
			}
			if id, err := uuid.Parse(in.TargetID); err == nil {
				f.TargetID = &id
			}
			ops, err := a.svc.ListOperations(ctx, f)
			if err != nil {
				return nil, err
			}
			views := make([]Operation, len(ops))
			for i, op := range ops {
				views[i] = viewOf(op)
			}
			return &listOutput{Body: httpx.PageOf(views, in.Limit, func(o Operation) httpx.Cursor { return httpx.Cursor{CreatedAt: o.CreatedAt, ID: o.ID} })}, nil
		})

	type getInput struct {
		OperationPath
		WaitParams
	}
	httpx.Handle(kit, httpx.Op{ID: "operation-get", Method: http.MethodGet, Path: "/api/v1/operations/{id}", Permission: "operation:read", Owned: true,
		Summary: "Read an operation, or wait for its end", Tag: "operations", Errors: []*errs.Error{operation.ErrNotFound}},
		func(ctx context.Context, in *getInput) (*operationOutput, error) {
			op, err := a.svc.GetOperation(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if op, err = a.svc.Await(ctx, op, in.duration()); err != nil {
				return nil, err
			}
			return &operationOutput{Applied: in.applied(), Body: viewOf(op)}, nil
		})

	type cancelInput struct {
		OperationPath
		WaitParams
	}
	httpx.Handle(kit, httpx.Op{ID: "operation-cancel", Method: http.MethodPost, Path: "/api/v1/operations/{id}/cancel", Permission: "operation:cancel", Owned: true,
		Summary: "Cancel an operation and undo what it did", Tag: "operations", Status: http.StatusAccepted,
		Errors: []*errs.Error{operation.ErrNotFound, operation.ErrEnded, operation.ErrNotCancelable}},
		func(ctx context.Context, in *cancelInput) (*accepted, error) {
			op, err := a.svc.CancelOperation(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	kit.Raw(httpx.Op{ID: "operation-events", Method: http.MethodGet, Path: "/api/v1/operations/{id}/events", Permission: "operation:read", Owned: true,
		Summary: "Follow an operation as server-sent events", Tag: "operations", Errors: []*errs.Error{operation.ErrNotFound},
		Description: "Sends the operation at once and at every change, as events named `operation`; ends with the operation."},
		httpx.RawDoc{AnswerType: "text/event-stream", AnswerText: "The operation, at every change."}, a.operationEvents)
}

func (a *API) operationEvents(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		httpx.WriteError(w, r, operation.ErrNotFound)
		return
	}
	if _, err := a.svc.GetOperation(r.Context(), id); err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	_ = flusher.SetWriteDeadline(time.Time{}) // a stream may take as long as the operation
	seq := 0
	err = a.svc.Operations().Watch(r.Context(), id, func(op operation.Operation) error {
		body, err := json.Marshal(viewOf(op))
		if err != nil {
			return err
		}
		seq++
		if _, err := fmt.Fprintf(w, "id: %d\nevent: operation\ndata: %s\n\n", seq, body); err != nil {
			return err
		}
		return flusher.Flush()
	})
	if err != nil && r.Context().Err() == nil {
		a.cfg.Log.DebugContext(r.Context(), "operation stream ended early", "operation_id", id, "error", err)
	}
}
