package gatewaymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
)

// changes are the subjects whose messages tell that something changed which kept answers may show.
//
//nolint:gochecknoglobals // constant
var changes = []string{"vm.events", "vm.objects", "auth.events"}

// watchChanges makes kept answers old when something changes, until stop is called.
func (m *Module) watchChanges() (stop func(), err error) {
	var subs []bus.Subscription
	stop = func() {
		for _, s := range subs {
			s.Close()
		}
	}
	if m.keeper == nil || m.deps.Bus == nil {
		return stop, nil
	}
	for _, subject := range changes {
		s, err := m.deps.Bus.Subscribe(subject, bus.SubscribeOptions{
			// What was lost may have been about anybody.
			OnGap: func(context.Context, uint64) { m.keeper.ForgetAll(uuid.NewString()) },
		}, func(_ context.Context, msg bus.Message) {
			var change struct {
				ID       uuid.UUID `json:"id"`
				TenantID uuid.UUID `json:"tenant_id"`
			}
			if err := json.Unmarshal(msg.Data, &change); err != nil || change.TenantID == uuid.Nil {
				m.keeper.ForgetAll(uuid.NewString())
				return
			}
			m.keeper.Forget(change.TenantID, change.ID.String())
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("listen to %s: %w", subject, err)
		}
		subs = append(subs, s)
	}
	return stop, nil
}

// stopWatching ends what Start began besides the listener.
func (m *Module) stopWatching() error {
	m.stopRemotes()
	if m.stopChanges != nil {
		m.stopChanges()
		m.stopChanges = nil
	}
	if m.keeper != nil {
		m.keeper.Wait()
	}
	var err error
	if limits := m.live.Load().state.Limits; limits != nil {
		err = errors.Join(err, limits.Close())
	}
	return err
}
