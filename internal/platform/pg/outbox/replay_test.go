package outbox_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
)

func TestReplay(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	var want []uuid.UUID
	for n := range 7 {
		want = append(want, write(t, pool, "thing.events", n))
		write(t, pool, "shared.records", n)
	}
	r := startRelay(t, pool, b, outbox.Config{Interval: never, Subjects: []string{"thing.events"}, Shared: []string{"shared.records"}})
	ctx := t.Context()

	var got []uuid.UUID
	var cursor int64
	for pages := 1; ; pages++ {
		reply, err := outbox.Replay(ctx, b, outbox.ReplaySubject("thing.events"), outbox.ReplayRequest{AfterSeq: cursor, Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Events) > 3 || reply.LastSeq != 13 || reply.FirstSeq != 1 {
			t.Fatalf("got %+v", reply)
		}
		for _, e := range reply.Events {
			got, cursor = append(got, e.ID), e.Seq
		}
		if cursor == reply.LastSeq {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	reply, err := outbox.Replay(ctx, b, outbox.ReplaySubject("thing.events"), outbox.ReplayRequest{AfterSeq: cursor})
	if err != nil || len(reply.Events) != 0 || reply.LastSeq != cursor {
		t.Errorf("at the end: %+v, %v", reply, err)
	}
	reply, err = outbox.Replay(ctx, b, outbox.ReplaySubjectOf("shared.records", "events"), outbox.ReplayRequest{})
	if err != nil || len(reply.Events) != 7 || reply.LastSeq != 14 {
		t.Errorf("shared subject: %+v, %v", reply, err)
	}
	// Several modules publish it, so none may answer for all.
	if _, err := outbox.Replay(ctx, b, outbox.ReplaySubject("shared.records"), outbox.ReplayRequest{}); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("got %v", err)
	}
	stopRelay(t, r)
	if _, err := outbox.Replay(ctx, b, outbox.ReplaySubject("thing.events"), outbox.ReplayRequest{}); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("after stop: %v", err)
	}
}

func TestReplayRefusesBadRequests(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	startRelay(t, pool, b, outbox.Config{Interval: never, Subjects: []string{"thing.events"}})
	for _, req := range []outbox.ReplayRequest{{AfterSeq: -1}, {Limit: -1}} {
		_, err := outbox.Replay(t.Context(), b, outbox.ReplaySubject("thing.events"), req)
		if e := errs.From(err); e.Kind != errs.Malformed || e.Code != "outbox.malformed_request" {
			t.Errorf("%+v: %v", req, err)
		}
	}
	m, err := b.Request(t.Context(), bus.Message{Subject: outbox.ReplaySubject("thing.events"), Data: []byte("{")})
	if err != nil || !strings.Contains(string(m.Data), "outbox.malformed_request") {
		t.Errorf("not JSON: %s, %v", m.Data, err)
	}
}

// An answer has to fit into one message of the bus.
func TestReplayIsBoundedInBytes(t *testing.T) {
	pool, b := newPool(t), newRecorder()
	for range 3 {
		write(t, pool, "thing.events", strings.Repeat("x", 300<<10))
	}
	startRelay(t, pool, b, outbox.Config{Interval: never, Subjects: []string{"thing.events"}})
	var cursor int64
	for want := int64(1); want <= 3; want++ {
		reply, err := outbox.Replay(t.Context(), b, outbox.ReplaySubject("thing.events"), outbox.ReplayRequest{AfterSeq: cursor})
		if err != nil || len(reply.Events) != 1 || reply.Events[0].Seq != want || reply.LastSeq != 3 {
			t.Fatalf("got %d events, %v", len(reply.Events), err)
		}
		cursor = reply.Events[0].Seq
	}
}
