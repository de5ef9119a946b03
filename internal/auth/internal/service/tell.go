package service

import (
	"context"

	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
)

// changing runs fn in a transaction, with the events that tell of it: they are committed with the change or not at all, and are kept for who missed
// them. telling is asked for them when fn is done, perhaps several times.
func (s *Service) changing(ctx context.Context, telling func() []event.Auth, fn func(tx store.Queries) error) error {
	var events []event.Auth
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		if err := fn(tx); err != nil {
			return err
		}
		events = telling()
		for i := range events {
			if err := s.stamp(&events[i]); err != nil {
				return err
			}
			if err := tx.WriteAuthEvent(ctx, events[i]); err != nil { // last: see the outbox
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range events {
		s.tell(ctx, e)
	}
	return nil
}

// stamp gives an event its id and time.
func (s *Service) stamp(e *event.Auth) (err error) {
	e.Timestamp = s.now()
	e.ID, err = newID()
	return err
}

// one is for changes of which one event tells.
func one(e event.Auth) []event.Auth { return []event.Auth{e} }
