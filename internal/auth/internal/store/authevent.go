package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

// WriteAuthEvent adds an event to the transaction; it is published after the commit. It fails outside of a transaction.
func (q Queries) WriteAuthEvent(ctx context.Context, e event.Auth) error {
	tx, ok := q.db.(pgx.Tx)
	if !ok {
		return fmt.Errorf("event %s: not in a transaction", e.Type)
	}
	return outbox.Write(ctx, tx, bus.SubjectAuthEvents, e.ID, e)
}
