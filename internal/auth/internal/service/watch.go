package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
)

const (
	// sequenceKey counts the changes of the whole installation in the shared cache.
	sequenceKey = "auth:changes"
	sequenceTTL = 365 * 24 * time.Hour
	// pollEvery leaves the poll and a slow answer room within certainty.
	pollEvery = 400 * time.Millisecond
	// tellTimeout bounds the telling of a change that has happened already.
	tellTimeout = 5 * time.Second
)

// watch keeps what this process remembers of sessions and API keys true.
//
// Each change is numbered by a counter in the shared cache and published on auth.events. A listener that gets number n+1 after n forgets what
// that change concerns. The bus may lose messages, so the counter is also polled: if it is ahead of what was heard, everything is
// forgotten. A poll that fails leaves the last good one to age, and when that is older than a second, states are no longer believed
// but read from the database at each use: revocation stays certain, at a price.
type watch struct {
	s       *Service
	settled atomic.Int64 // when the last good poll began, in Unix nanoseconds

	mu    sync.Mutex // guards heard
	heard int64      // the number of the last change that was taken into account

	lifecycle sync.Mutex // guards what follows
	cancel    context.CancelFunc
	done      []chan struct{} // closed by what Start started
	sub       bus.Subscription
}

func newWatch(s *Service) *watch { return &watch{s: s} }

// vouches tells whether a state that was read then can be believed without asking the database.
func (w *watch) vouches(read, now time.Time) bool {
	age := now.Sub(read)
	if age < 0 || age >= stateTTL {
		return false
	}
	return age < certainty || now.UnixNano()-w.settled.Load() < int64(certainty)
}

// Start begins to listen for changes, to write down the use of API keys and to forget what has ended. It is idempotent, and may follow Stop.
func (s *Service) Start(ctx context.Context) error {
	w := s.watch
	w.lifecycle.Lock()
	defer w.lifecycle.Unlock()
	if w.cancel != nil {
		return nil
	}
	sub, err := s.Bus.Subscribe(auth.EventsSubject, bus.SubscribeOptions{OnGap: w.gap}, w.receive)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", auth.EventsSubject, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel, w.sub, w.done = cancel, sub, []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})}
	go w.run(run, w.done[0])
	go s.prune(run, w.done[1])
	go s.tendKeys(run, w.done[2])
	go s.writeUses(run, w.done[3])
	if s.Mail != nil {
		s.postman.Every(context.WithoutCancel(ctx), postEvery, 0, s.sendLinks)
	}
	return nil
}

// Stop ends what Start began and returns when it has. It is idempotent.
func (s *Service) Stop() {
	w := s.watch
	w.lifecycle.Lock()
	defer w.lifecycle.Unlock()
	if w.cancel == nil {
		return
	}
	w.cancel()
	s.postman.Stop()
	w.sub.Close()
	for _, done := range w.done {
		<-done
	}
	w.cancel, w.done, w.sub = nil, nil, nil
	w.settled.Store(0)
	s.forgetAll() // nobody would tell us of changes any more
}

// run polls until Stop.
func (w *watch) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failing := false
	for {
		err := w.poll(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			w.s.Log.WarnContext(ctx, "the shared cache does not answer; sessions and API keys are read from the database until it does", "error", err)
		}
		if err == nil && failing {
			w.s.Log.InfoContext(ctx, "the shared cache answers again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// poll looks whether a change was missed.
func (w *watch) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, certainty)
	defer cancel()
	begun := w.s.Now()
	w.mu.Lock()
	before := w.heard
	w.mu.Unlock()
	value, found, err := w.s.Counters.Get(ctx, sequenceKey)
	if err != nil {
		return err
	}
	var seq int64
	if found {
		if seq, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return fmt.Errorf("the count of changes is %.40q: %w", value, err)
		}
	}
	missed := false
	defer func() {
		if missed {
			w.s.refreshKeys(ctx)
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	// What was heard while the cache was asked may be ahead of its answer. Behind what was heard before, it has lost its count.
	if seq > w.heard || seq < before {
		w.heard, missed = seq, true
		w.s.forgetAll()
	}
	w.settled.Store(begun.UnixNano())
	return nil
}

// gap hears that messages were lost.
func (w *watch) gap(context.Context, uint64) { w.s.forgetAll() }

// receive hears of a change, this process's own ones too.
func (w *watch) receive(ctx context.Context, m bus.Message) {
	var e event.Auth
	if err := json.Unmarshal(m.Data, &e); err != nil {
		w.s.Log.WarnContext(ctx, "an event of auth cannot be read", "error", err)
		w.s.forgetAll()
		return
	}
	w.take(e)
	if e.Type == event.AuthKeysRotated {
		w.s.refreshKeys(ctx)
	}
	if e.Type == event.AuthPasswordChanged || e.Type == event.AuthUserDeleted {
		if err := w.s.reconcilePasswordFile(ctx); err != nil {
			w.s.Log.WarnContext(ctx, "the first administrator's password file may be out of date", "error", err)
		}
	}
}

// take forgets what a change concerns, or everything where a change before it was missed.
func (w *watch) take(e event.Auth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Seq > w.heard+1 {
		w.s.forgetAll()
	}
	w.heard = max(w.heard, e.Seq)
	switch {
	case e.Type == event.AuthUserCreated, e.Type == event.AuthTenantCreated, e.Type == event.AuthRoleCreated, e.Type == event.AuthKeysRotated,
		e.Type == event.AuthAPIKeyCreated: // nobody remembers anything of it
	case e.APIKeyID != uuid.Nil:
		w.s.keys.forgetWhere(func(st *keyState) bool { return st.ID == e.APIKeyID })
	case e.SessionID != uuid.Nil:
		w.s.states.forget(e.SessionID)
	case e.UserID != uuid.Nil:
		w.s.states.forgetWhere(func(st *sessionState) bool { return st.over || st.principal.UserID == e.UserID })
		w.s.keys.forgetWhere(func(st *keyState) bool { return st.Over || st.Owner.ID == e.UserID })
	default: // a tenant or a role: whose sessions act in it, or have it, is not worth knowing for changes as rare as these
		w.s.forgetAll()
	}
}

// forgetAll drops everything that may change.
func (s *Service) forgetAll() {
	s.states.forgetAll()
	s.keys.forgetAll()
}

// tell makes a committed change known, here at once and elsewhere soon. Its event is in the outbox, which publishes it too, with the same id and
// without a number: so nobody misses it for good, whatever happens here. The change has happened, so a caller who has gone does not stop
// it, and a failure is not theirs: other processes notice by the counter, or at the latest when what they remember is too old.
func (s *Service) tell(ctx context.Context, e event.Auth) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	s.watch.take(e) // not numbered yet: even a cache that hangs must not delay it
	var err error
	if e.ID == uuid.Nil { // of what is no row, or was told by nobody: it is kept from here on
		if err = s.stamp(&e); err != nil {
			s.Log.ErrorContext(ctx, "a change of identity could not be told", "error", err, "type", e.Type)
			return
		}
		if err = s.Store.InTx(ctx, func(tx store.Queries) error { return tx.WriteAuthEvent(ctx, e) }); err != nil {
			s.Log.WarnContext(ctx, "a change of identity could not be kept for those who miss it now", "error", err, "type", e.Type)
		}
	}
	if e.Seq, err = s.Counters.Increment(ctx, sequenceKey, sequenceTTL); err != nil {
		s.Log.WarnContext(ctx, "a change of identity could not be numbered", "error", err, "type", e.Type)
	}
	s.watch.take(e)
	data, err := json.Marshal(e)
	if err == nil {
		err = s.Bus.Publish(ctx, bus.Message{Subject: auth.EventsSubject, Data: data})
	}
	if err != nil {
		s.Log.WarnContext(ctx, "a change of identity could not be published", "error", err, "type", e.Type)
	}
}
