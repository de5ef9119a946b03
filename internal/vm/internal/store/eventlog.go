package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// EventFilter picks events; what is empty does not narrow.
type EventFilter struct {
	TenantID *uuid.UUID // nil: of all tenants
	Types    []string
	Kinds    []string
	ObjectID *uuid.UUID
	VMID     *uuid.UUID
}

// EventBounds tells what is kept of events. Numbers follow the order of commits.
type EventBounds struct {
	First int64 // the lowest number that is still there
	Last  int64 // the highest; 0 where there is none
	Next  int64 // no event has had this one yet
}

// EventBounds tells what is kept of events.
func (s *Store) EventBounds(ctx context.Context) (EventBounds, error) {
	row, err := s.q.EventBounds(ctx, s.pool)
	if err != nil {
		return EventBounds{}, fmt.Errorf("read the extent of events: %w", pg.Map(err))
	}
	return EventBounds(row), nil
}

// Events reads events with a higher number than after, in order, at most limit, and tells up to which number it has seen everything.
func (s *Store) Events(ctx context.Context, f EventFilter, after int64, limit int) ([]vm.Event, int64, error) {
	// What is committed later has a higher number, so this bound, taken first, is safe.
	bounds, err := s.EventBounds(ctx)
	if err != nil {
		return nil, after, err
	}
	if f.Types == nil {
		f.Types = []string{}
	}
	if f.Kinds == nil {
		f.Kinds = []string{}
	}
	machine, object := idText(f.VMID), idText(f.ObjectID)
	var rows []vmdb.EventsOfAllRow
	if f.TenantID == nil {
		rows, err = s.q.EventsOfAll(ctx, s.pool, vmdb.EventsOfAllParams{After: after, Types: f.Types, Kinds: f.Kinds, ObjectID: object, VmID: machine, MaxRows: int32(limit)})
	} else {
		var own []vmdb.EventsOfTenantRow
		own, err = s.q.EventsOfTenant(ctx, s.pool, vmdb.EventsOfTenantParams{TenantID: f.TenantID.String(), After: after, Types: f.Types, Kinds: f.Kinds, ObjectID: object, VmID: machine, MaxRows: int32(limit)})
		for _, row := range own {
			rows = append(rows, vmdb.EventsOfAllRow(row))
		}
	}
	if err != nil {
		return nil, after, fmt.Errorf("read events: %w", pg.Map(err))
	}
	events := make([]vm.Event, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row.Payload, &events[i]); err != nil {
			return nil, after, fmt.Errorf("decode event %d: %w", row.Seq, err)
		}
		events[i].Cursor = strconv.FormatInt(row.Seq, 10)
		after = row.Seq
	}
	if len(rows) < limit {
		after = max(after, bounds.Last)
	}
	return events, after, nil
}

func idText(id *uuid.UUID) *string {
	if id == nil {
		return nil
	}
	text := id.String()
	return &text
}
