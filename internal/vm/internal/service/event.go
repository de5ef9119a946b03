package service

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// How streams of events are read.
const (
	eventBatch = 200
	// eventPoll is how long a stream waits at most before it looks by itself: a word of the bus can be lost.
	eventPoll = 5 * time.Second
	// eventPause is the least time between two looks, so that many events at once are one look.
	eventPause = 100 * time.Millisecond
	// eventBeat is how often a stream that is silent is given a sign of life, and told how far it has come.
	eventBeat = 15 * time.Second

	maxReaders    = 2000 // of a process
	maxOwnReaders = 50   // of a user
)

// wake tells those who wait that there is something new.
type wake struct {
	mu sync.Mutex // guards c
	c  chan struct{}
}

func (w *wake) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c == nil {
		w.c = make(chan struct{})
	}
	return w.c
}

func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c != nil {
		close(w.c)
		w.c = nil
	}
}

// WatchEvents wakes streams, and due, which sends to webhooks, when events are told on the bus. It goes on until the subscription is closed, and is
// called before the first request.
func (s *Service) WatchEvents(b bus.Bus, due func()) (bus.Subscription, error) {
	s.due = due
	news := func() {
		s.told.all()
		due()
	}
	var subs subscriptions
	for _, subject := range []string{bus.SubjectVMEvents, bus.SubjectVMObjects} {
		sub, err := b.Subscribe(subject, bus.SubscribeOptions{OnGap: func(context.Context, uint64) { news() }}, func(context.Context, bus.Message) { news() })
		if err != nil {
			subs.Close()
			return nil, fmt.Errorf("listen to %s: %w", subject, err)
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

// subscriptions are several that end together.
type subscriptions []bus.Subscription

func (list subscriptions) Close() {
	for _, sub := range list {
		sub.Close()
	}
}

// EventRequest picks events.
type EventRequest struct {
	AllTenants bool // needs the permission on the platform
	Types      []string
	Kinds      []string
	ObjectID   *uuid.UUID
	VMID       *uuid.UUID
	// Since is the cursor of the last event that the reader has seen. Empty: from now on; "0": from the oldest that is kept.
	Since string
}

// EventReader reads events in their order.
type EventReader struct {
	s      *Service
	filter store.EventFilter
	after  int64
}

// Events begins to read events.
func (s *Service) Events(ctx context.Context, req EventRequest) (*EventReader, error) {
	p := caller(ctx)
	r := &EventReader{s: s, filter: store.EventFilter{TenantID: &p.TenantID, Types: req.Types, Kinds: req.Kinds, ObjectID: req.ObjectID, VMID: req.VMID}}
	if req.AllTenants {
		if err := platformOnly(ctx, "event:read"); err != nil {
			return nil, err
		}
		r.filter.TenantID = nil
	}
	bounds, err := s.store.EventBounds(ctx)
	if err != nil {
		return nil, err
	}
	switch req.Since {
	case "":
		r.after = bounds.Last
		return r, nil
	case "0":
		return r, nil
	}
	r.after, err = strconv.ParseInt(req.Since, 10, 64)
	if err != nil || r.after < 0 {
		return nil, httpx.ErrInvalid.WithField("query.since", "is no cursor of an event", req.Since)
	}
	if r.after+1 < bounds.First || r.after >= bounds.Next { // they are gone, or the database is one from before
		return nil, vm.ErrEventsGone
	}
	return r, nil
}

// Cursor is where the reader has come to: whoever goes on there misses nothing.
func (r *EventReader) Cursor() string { return strconv.FormatInt(r.after, 10) }

// Next reads what is there, at most limit.
func (r *EventReader) Next(ctx context.Context, limit int) ([]vm.Event, error) {
	events, after, err := r.s.store.Events(ctx, r.filter, r.after, limit)
	r.after = after
	return events, err
}

// Follow hands over events as they come, until ctx or the right to read them ends, or send fails. With no events send is called for a sign of life.
func (r *EventReader) Follow(ctx context.Context, send func([]vm.Event) error) error {
	p := caller(ctx)
	if all, own := r.s.readers.count(p.UserID); all >= maxReaders || own >= maxOwnReaders {
		return vm.ErrEventReaders
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer r.s.readers.add(p, cancel)()
	if err := send(nil); err != nil {
		return err
	}
	spoke := time.Now()
	for {
		news := r.s.told.next() // before the look, so that nothing falls in between
		events, err := r.Next(ctx, eventBatch)
		if err != nil {
			return err
		}
		if len(events) > 0 || time.Since(spoke) >= eventBeat {
			if err := send(events); err != nil {
				return err
			}
			spoke = time.Now()
		}
		if len(events) == eventBatch {
			continue
		}
		if !pause(ctx, eventPause, nil) || !pause(ctx, eventPoll, news) {
			return nil
		}
	}
}

// pause waits so long, or until there is news, and tells whether ctx has not ended.
func pause(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-news:
	case <-timer.C:
	}
	return true
}
