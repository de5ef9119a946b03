package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Topic is a subject whose payloads are JSON of one type.
type Topic[T any] struct{ subject string }

// NewTopic names a topic.
func NewTopic[T any](subject string) Topic[T] { return Topic[T]{subject: subject} }

// Publish encodes v and hands it to every subscriber.
func (t Topic[T]) Publish(ctx context.Context, b Bus, v T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", t.subject, err)
	}
	return b.Publish(ctx, Message{Subject: t.subject, Data: data})
}

// Subscribe decodes what arrives. A payload that is not a T is logged and dropped: the publisher is of another version.
func (t Topic[T]) Subscribe(b Bus, opts SubscribeOptions, h func(ctx context.Context, v T)) (Subscription, error) {
	return b.Subscribe(t.subject, opts, func(ctx context.Context, m Message) {
		var v T
		if err := json.Unmarshal(m.Data, &v); err != nil {
			slog.WarnContext(ctx, "message dropped: it cannot be decoded", "subject", m.Subject, "error", err)
			return
		}
		h(ctx, v)
	})
}

// HeaderDeadline carries the time until which a caller waits, in RFC 3339.
const HeaderDeadline = "Nova-Deadline"

// reply is the envelope of an answer: either part is set.
type reply struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"` // an encoded errs.Error
}

// Call sends a request and waits for the answer of whoever serves the subject. An error of theirs comes back with its code.
func Call[Req, Resp any](ctx context.Context, b Bus, subject string, req Req) (Resp, error) {
	var resp Resp
	data, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("encode request for %s: %w", subject, err)
	}
	m := Message{Subject: subject, Data: data}
	if deadline, ok := ctx.Deadline(); ok {
		m.Header = map[string]string{HeaderDeadline: deadline.Format(time.RFC3339Nano)}
	}
	answer, err := b.Request(ctx, m)
	if err != nil {
		return resp, err
	}
	var r reply
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return resp, fmt.Errorf("decode reply on %s: %w", subject, err)
	}
	if len(r.Error) > 0 {
		return resp, errs.Decode(r.Error)
	}
	if err := json.Unmarshal(r.Answer, &resp); err != nil {
		return resp, fmt.Errorf("decode answer on %s: %w", subject, err)
	}
	return resp, nil
}

// DefaultConcurrency is how many requests Serve handles at once where nothing else is said.
const DefaultConcurrency = 64

// ServeOptions changes how requests are served.
type ServeOptions struct {
	Queue       string // members of one queue group share the requests
	Concurrency int    // 0 means DefaultConcurrency; what is above it waits in the subscription's queue
}

// Serve answers requests, several at a time because one may take minutes. The handler's context ends with the caller's deadline
// and with the subscription, not when the caller loses patience: a request is carried out whether or not its answer is awaited.
// Closing the subscription ends the handlers' contexts and waits for the handlers, so a handler must not close its own.
func Serve[Req, Resp any](b Bus, subject string, opts ServeOptions, h func(ctx context.Context, req Req) (Resp, error)) (Subscription, error) {
	if opts.Concurrency <= 0 {
		opts.Concurrency = DefaultConcurrency
	}
	s := &served{slots: make(chan struct{}, opts.Concurrency)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	sub, err := b.Subscribe(subject, SubscribeOptions{Queue: opts.Queue}, func(_ context.Context, m Message) {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		if !s.begin() {
			<-s.slots
			return
		}
		go func() { // ends with the handler, whose context Close ends
			defer func() { <-s.slots; s.wg.Done() }()
			answer(s.ctx, b, m, h)
		}()
	})
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.sub = sub
	return s, nil
}

type served struct {
	sub    Subscription
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex // guards closed, and keeps wg from growing while Close waits for it
	closed bool
}

// begin counts a handler that is about to run. It answers false once Close was called, which does not wait for the subscription's
// own handler.
func (s *served) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

func (s *served) Close() {
	s.cancel()
	s.sub.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}

func answer[Req, Resp any](ctx context.Context, b Bus, m Message, h func(ctx context.Context, req Req) (Resp, error)) {
	if deadline, err := time.Parse(time.RFC3339Nano, m.Header[HeaderDeadline]); err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	var r reply
	resp, err := handle(ctx, m, h)
	if err == nil {
		r.Answer, err = json.Marshal(resp)
	}
	if err != nil {
		if e := errs.From(err); e.Code == errs.ErrInternal.Code {
			slog.ErrorContext(ctx, "request on the bus failed", "subject", m.Subject, "error", err)
		}
		r = reply{Error: errs.Encode(err)}
	}
	if m.Reply == "" {
		return
	}
	data, err := json.Marshal(r)
	if err != nil { // cannot happen: both parts are JSON already
		return
	}
	if err := b.Publish(context.WithoutCancel(ctx), Message{Subject: m.Reply, Data: data}); err != nil && !errors.Is(err, ErrClosed) {
		slog.WarnContext(ctx, "reply could not be sent", "subject", m.Subject, "error", err)
	}
}

// handle runs the handler; a panic of it is an error of this one request.
func handle[Req, Resp any](ctx context.Context, m Message, h func(ctx context.Context, req Req) (Resp, error)) (resp Resp, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.ErrInternal.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	var req Req
	if err := json.Unmarshal(m.Data, &req); err != nil {
		return resp, ErrBadRequest.Wrap(err)
	}
	return h(ctx, req)
}

// ErrBadRequest answers a request whose payload cannot be decoded.
var ErrBadRequest = errs.New(errs.Malformed, "bus.bad_request", "the request cannot be decoded; caller and server are of different versions")
