package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

// operate makes an operation, which is over at once unless it is slow. It carries out do where it succeeds.
func (c *cloud) operate(kind, name string, target uuid.UUID, do func()) *apiclient.Operation {
	soon := day.Add(1500 * time.Millisecond)
	op := &apiclient.Operation{ID: c.id(), Kind: kind, TargetID: target, RequestedBy: owner, Status: "pending", CreatedAt: day, StartedAt: &day,
		Steps: []apiclient.Step{{Name: "place", Status: "pending"}, {Name: "disk", Status: "pending"}, {Name: "define", Status: "pending"}}}
	c.ops = append([]*apiclient.Operation{op}, c.ops...)
	shown := *op // how it is answered: not begun yet
	switch {
	case strings.HasPrefix(name, "slow-"):
		op.Status, op.Progress, op.Steps[0].Status = "running", 10, "running"
	case strings.HasPrefix(name, "fails-"):
		op.Status, op.Progress, op.EndedAt = "failed", 50, &soon
		op.Error = errs.ProblemOf(errs.New(errs.Unavailable, "node.storage_full", "kvm-01 has no room for the disk").AtStep("disk").WithAction("Free space on the node."), "", "")
		op.Steps = []apiclient.Step{{Name: "place", Status: "undone", Attempts: 1, StartedAt: &day, EndedAt: &soon}, {Name: "disk", Status: "undone", Attempts: 3, Error: op.Error}, {Name: "define", Status: "skipped"}}
	default:
		op.Status, op.Progress, op.EndedAt = "succeeded", 100, &soon
		for i := range op.Steps {
			op.Steps[i] = apiclient.Step{Name: op.Steps[i].Name, Status: "succeeded", Attempts: 1, StartedAt: &day, EndedAt: &soon}
		}
		do()
	}
	return &shown
}

func (c *cloud) handleOperations(handle register, mux *http.ServeMux) {
	find := func(r *http.Request) *apiclient.Operation {
		for _, op := range c.ops {
			if op.ID.String() == r.PathValue("id") {
				return op
			}
		}
		return nil
	}
	missing := errs.New(errs.NotFound, "operation.not_found", "there is no such operation")
	handle("GET /api/v1/operations", func(w http.ResponseWriter, r *http.Request) {
		items := []*apiclient.Operation{}
		for _, op := range c.ops {
			if s := r.URL.Query().Get("status"); s == "" || s == op.Status {
				items = append(items, op)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("GET /api/v1/operations/{id}", func(w http.ResponseWriter, r *http.Request) {
		if op := find(r); op != nil {
			answer(w, 200, op)
			return
		}
		refuse(w, missing)
	})
	handle("POST /api/v1/operations/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		op := find(r)
		switch {
		case op == nil:
			refuse(w, missing)
		case op.Ended():
			refuse(w, errs.New(errs.Conflict, "operation.ended", "the operation has ended already"))
		default:
			op.Status, op.EndedAt, op.CancelRequested = "canceled", &day, true
			op.Error = errs.ProblemOf(errs.New(errs.Conflict, "operation.canceled", "the operation was canceled"), "", "")
			answer(w, 202, op)
			close(c.ended)
			c.ended = make(chan struct{})
		}
	})
	// The stream outlives the lock. It shows each step of an operation that is over, as a quick watcher would have seen them.
	mux.HandleFunc("GET /api/v1/operations/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		send := func(op apiclient.Operation) {
			raw, _ := json.Marshal(op)
			fmt.Fprintf(w, "event: operation\ndata: %s\n\n", raw)
			_ = http.NewResponseController(w).Flush()
		}
		c.mu.Lock()
		op, changed := *find(r), c.ended
		c.mu.Unlock()
		for i := range op.Steps {
			at := op
			at.Status, at.Error, at.EndedAt, at.Progress = "running", nil, nil, 30*i
			at.Steps = append([]apiclient.Step{}, op.Steps...)
			for j := range at.Steps {
				at.Steps[j].Status, at.Steps[j].Error = []string{"succeeded", "running", "pending"}[1+min(1, max(-1, j-i))], nil
			}
			send(at)
			if op.Status != "succeeded" && i > 0 || op.Status == "running" {
				break
			}
		}
		if !op.Ended() {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
			c.mu.Lock()
			op = *find(r)
			c.mu.Unlock()
		}
		send(op)
	})
}
