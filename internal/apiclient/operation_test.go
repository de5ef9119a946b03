package apiclient_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

func operation(id uuid.UUID, status string, progress int) string {
	op := apiclient.Operation{ID: id, Kind: "vm.create", Status: status, Progress: progress, Steps: []apiclient.Step{}}
	if status == apiclient.OperationFailed {
		op.Error = errs.ProblemOf(errs.New(errs.Conflict, "t.full", "the disk is full").WithAction("Make room."), "", "")
		op.Steps = []apiclient.Step{{Name: "place", Status: "undone"}, {Name: "disk", Status: "undone", Error: op.Error}}
	}
	raw, _ := json.Marshal(op)
	return string(raw)
}

// follow runs FollowOperation against a handler of the operation's two routes and gives the progress that was told.
func follow(t *testing.T, events, get http.HandlerFunc) (apiclient.Operation, []int, error) {
	t.Helper()
	mux := http.NewServeMux()
	if events != nil {
		mux.HandleFunc("GET /api/v1/operations/{id}/events", events)
	}
	mux.HandleFunc("GET /api/v1/operations/{id}", get)
	c, _ := serve(t, mux)
	var told []int
	op, err := c.FollowOperation(t.Context(), uuid.New(), func(o apiclient.Object[apiclient.Operation]) { told = append(told, o.Value.Progress) })
	return op.Value, told, err
}

func event(w http.ResponseWriter, op string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	fmt.Fprintf(w, ": a comment\nid: 1\nevent: operation\ndata: %s\n\nevent: other\ndata: x\n\n", op)
	_ = http.NewResponseController(w).Flush()
}

func TestFollowByEvents(t *testing.T) {
	id := uuid.New()
	op, told, err := follow(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("accepts %s", r.Header.Get("Accept"))
		}
		event(w, operation(id, "running", 10))
		event(w, operation(id, "running", 10)) // twice the same is told once
		event(w, operation(id, "running", 60))
		event(w, operation(id, "succeeded", 100))
		<-r.Context().Done() // a server that keeps the stream open does not keep the client
	}, func(http.ResponseWriter, *http.Request) { t.Error("the server was asked though it sends events") })
	if err != nil || op.Status != "succeeded" || !slices.Equal(told, []int{10, 60, 100}) {
		t.Errorf("%+v, %v, %v", op, told, err)
	}
}

func TestFollowOutlivesBrokenStreams(t *testing.T) {
	id := uuid.New()
	var n atomic.Int64
	op, told, err := follow(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			event(w, operation(id, "running", 10))
			panic(http.ErrAbortHandler)
		case 2:
			problem(w, errs.New(errs.Unavailable, "gateway.draining", "shutting down"))
		case 3:
			event(w, operation(id, "running", 50))
			fmt.Fprint(w, "event: operation\ndata: {\"id\":") // cut off in the middle of an event
		default:
			event(w, operation(id, "failed", 50))
		}
	}, broken)
	if err != nil || op.Status != "failed" || !slices.Equal(told, []int{10, 50, 50}) {
		t.Fatalf("%+v, %v, %v", op, told, err)
	}
	var failed *apiclient.OperationError
	if err := op.Err(); !errors.As(err, &failed) || failed.Error() != "vm.create failed at step disk: the disk is full (t.full)" || failed.Problem().Action != "Make room." {
		t.Errorf("got %v", err)
	}
}

func broken(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }

func TestFollowByAsking(t *testing.T) {
	id := uuid.New()
	for name, events := range map[string]http.HandlerFunc{
		"no such route": nil,
		"no stream":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"not allowed":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			op, told, err := follow(t, events, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("wait") == "" {
					t.Error("asked without waiting")
				}
				if strings.HasSuffix(r.URL.Path, "/events") || n.Add(1) < 3 {
					fmt.Fprint(w, operation(id, "running", int(n.Load())))
					return
				}
				fmt.Fprint(w, operation(id, "canceled", 3))
			})
			if err != nil || op.Status != "canceled" || !slices.Equal(told, []int{1, 2, 3}) {
				t.Errorf("%+v, %v, %v", op, told, err)
			}
		})
	}
}

func TestFollowUnknownOperation(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		problem(w, errs.New(errs.NotFound, "operation.not_found", "there is no such operation"))
	}
	_, _, err := follow(t, refuse, refuse)
	var e *apiclient.Error
	if !errors.As(err, &e) || e.Code != "operation.not_found" {
		t.Errorf("got %v", err)
	}
}
