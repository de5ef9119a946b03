package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/errs"
)

// Bounds of one answer to a replay request.
const (
	DefaultReplayLimit = 100
	MaxReplayLimit     = 1000
	// maxReplayBytes keeps an answer below the largest message of NATS, 1 MiB by default.
	maxReplayBytes = 512 << 10
	replayTimeout  = 15 * time.Second
)

// ReplayRequest asks for events that come after a cursor.
type ReplayRequest struct {
	AfterSeq int64 `json:"after_seq"`       // 0: from the oldest one
	Limit    int   `json:"limit,omitempty"` // 0: DefaultReplayLimit; at most MaxReplayLimit
}

// ReplayReply is the answer. A reader asks again, after the last event it got, until that is LastSeq. An answer may hold fewer events
// than asked for.
type ReplayReply struct {
	Events []Event `json:"events"`
	// LastSeq is the highest seq of the subject; 0 when it has no events.
	LastSeq int64 `json:"last_seq"`
	// FirstSeq is the lowest seq that is still kept. A reader whose cursor is below FirstSeq-1 may have missed events for good and has
	// to look at the state itself.
	FirstSeq int64 `json:"first_seq"`
	// Error is set instead when the request could not be answered.
	Error *errs.Error `json:"error,omitempty"`
}

// ReplaySubject is where the one publisher of a subject answers replay requests.
func ReplaySubject(subject string) string { return subject + ".replay" }

// ReplaySubjectOf is where one of several publishers of a subject answers; each has a seq of its own.
func ReplaySubjectOf(subject, schema string) string { return subject + ".replay." + schema }

// Replay asks for events on a ReplaySubject.
func Replay(ctx context.Context, b bus.Bus, replaySubject string, req ReplayRequest) (ReplayReply, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return ReplayReply{}, fmt.Errorf("replay %s: %w", replaySubject, err)
	}
	m, err := b.Request(ctx, bus.Message{Subject: replaySubject, Data: data})
	if err != nil {
		return ReplayReply{}, fmt.Errorf("replay %s: %w", replaySubject, err)
	}
	var reply ReplayReply
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return ReplayReply{}, fmt.Errorf("replay %s: %w", replaySubject, err)
	}
	if reply.Error != nil {
		return ReplayReply{}, fmt.Errorf("replay %s: %w", replaySubject, reply.Error)
	}
	return reply, nil
}

// errReplayRequest says that a replay request could not be read.
var errReplayRequest = errs.New(errs.Malformed, "outbox.malformed_request", "the replay request is not valid")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{errReplayRequest} }

// answer makes the handler of a subject's replay requests.
func (r *Relay) answer(subject string) bus.Handler {
	return func(ctx context.Context, m bus.Message) {
		if m.Reply == "" {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, replayTimeout)
		defer cancel()
		reply, err := r.replay(ctx, subject, m.Data)
		if err != nil {
			r.log.Warn("replay request failed", "subject", subject, "error", err)
			reply = ReplayReply{Error: errs.From(err)}
		}
		data, err := json.Marshal(reply)
		if err == nil {
			err = r.bus.Publish(ctx, bus.Message{Subject: m.Reply, Data: data})
		}
		if err != nil {
			r.log.Warn("replay request not answered", "subject", subject, "error", err)
		}
	}
}

func (r *Relay) replay(ctx context.Context, subject string, request []byte) (ReplayReply, error) {
	var req ReplayRequest
	if len(request) > 0 {
		if err := json.Unmarshal(request, &req); err != nil {
			return ReplayReply{}, errReplayRequest.Wrap(err)
		}
	}
	if req.AfterSeq < 0 || req.Limit < 0 {
		return ReplayReply{}, errReplayRequest.WithMessage("after_seq and limit must not be negative")
	}
	if req.Limit == 0 {
		req.Limit = DefaultReplayLimit
	}
	events, err := Read(ctx, r.pool, subject, req.AfterSeq, min(req.Limit, MaxReplayLimit))
	if err != nil {
		return ReplayReply{}, err
	}
	// After the events: a reader must never take a cursor for the end that is not.
	bounds, err := Extent(ctx, r.pool, subject)
	if err != nil {
		return ReplayReply{}, err
	}
	return ReplayReply{Events: cut(events, maxReplayBytes), LastSeq: bounds.Last, FirstSeq: bounds.First}, nil
}

// cut keeps as many events as fit into size bytes, and one at least.
func cut(events []Event, size int) []Event {
	for i, e := range events {
		// Around the payload stand about 160 bytes of names, numbers and the id.
		if size -= len(e.Payload) + len(e.Subject) + 160; size < 0 && i > 0 {
			return events[:i]
		}
	}
	return events
}
