package audit

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
)

// Remote is a Store for modules without a database, such as the gateway: it hands everything to the auth module, by request/reply, and has it when it
// was written there.
type Remote struct {
	Bus bus.Bus
}

var _ Store = Remote{}

// intake is a request to the auth module.
type intake struct {
	Do      string        `json:"do"` // begin, end, drop, write, alive
	Records []event.Audit `json:"records,omitempty"`
	IDs     []uuid.UUID   `json:"ids,omitempty"`
}

type taken struct{}

func (r Remote) ask(ctx context.Context, in intake) error {
	_, err := bus.Call[intake, taken](ctx, r.Bus, bus.SubjectAuditIntake, in)
	return err
}

// Begin implements Store.
func (r Remote) Begin(ctx context.Context, record event.Audit) error {
	return r.ask(ctx, intake{Do: "begin", Records: []event.Audit{record}})
}

// End implements Store.
func (r Remote) End(ctx context.Context, record event.Audit) error {
	return r.ask(ctx, intake{Do: "end", Records: []event.Audit{record}})
}

// Drop implements Store.
func (r Remote) Drop(ctx context.Context, id uuid.UUID) error {
	return r.ask(ctx, intake{Do: "drop", IDs: []uuid.UUID{id}})
}

// Write implements Store.
func (r Remote) Write(ctx context.Context, records []event.Audit) error {
	return r.ask(ctx, intake{Do: "write", Records: records})
}

// Alive implements Store.
func (r Remote) Alive(ctx context.Context, ids []uuid.UUID) error {
	return r.ask(ctx, intake{Do: "alive", IDs: ids})
}

// Sweep implements Store. The auth module sweeps its own table.
func (Remote) Sweep(context.Context) (int, error) { return 0, nil }

// ServeRemote answers every Remote, out of a store with a database, until the subscription is closed.
func ServeRemote(b bus.Bus, store Store) (bus.Subscription, error) {
	return bus.Serve(b, bus.SubjectAuditIntake, bus.ServeOptions{Queue: "auth.audit"}, func(ctx context.Context, in intake) (taken, error) {
		for i := range in.Records {
			in.Records[i] = Clean(in.Records[i])
		}
		switch {
		case in.Do == "begin" && len(in.Records) == 1:
			return taken{}, store.Begin(ctx, in.Records[0])
		case in.Do == "end" && len(in.Records) == 1:
			return taken{}, store.End(ctx, in.Records[0])
		case in.Do == "drop" && len(in.IDs) == 1:
			return taken{}, store.Drop(ctx, in.IDs[0])
		case in.Do == "write":
			return taken{}, store.Write(ctx, in.Records)
		case in.Do == "alive":
			return taken{}, store.Alive(ctx, in.IDs)
		}
		return taken{}, bus.ErrBadRequest.Wrap(fmt.Errorf("no such thing to do: %.20q", in.Do))
	})
}
