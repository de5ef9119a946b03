package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// HeaderDeadline carries the time until which a caller waits, in RFC 3339 with nanoseconds. The clocks of caller and server must agree
// about as well as NTP has them agree.
const HeaderDeadline = "Nova-Deadline"

// reply is the envelope of an answer: either part is set.
type reply struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"` // an encoded errs.Error
}

// Call sends a request and waits for the answer of whoever serves the subject. An error of theirs comes back with its code. The deadline
// of ctx travels along; ctx should have one, for a lost answer is waited for as long as ctx lasts.
func Call[Req, Resp any](ctx context.Context, b Bus, subject string, req Req) (resp Resp, err error) {
	data, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("encode request for %s: %w", subject, err)
	}
	ctx, span := callSpan(ctx, subject)
	defer func() { span.End(err) }()
	m := Message{Subject: subject, Header: traceHeader(ctx), Data: data}
	if deadline, ok := ctx.Deadline(); ok {
		if m.Header == nil {
			m.Header = map[string]string{}
		}
		m.Header[HeaderDeadline] = deadline.UTC().Format(time.RFC3339Nano)
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

// ServeOptions changes how requests are served. The zero value serves DefaultConcurrency at once and shares with nobody.
type ServeOptions struct {
	Queue       string // members of one queue group share the requests
	Concurrency int    // 0 means DefaultConcurrency; what is above it waits in the subscription's queue
	Capacity    int    // how many requests may wait; 0 means DefaultCapacity. What is above it is lost, and its caller times out
}

// Serve answers requests, several at a time because one may take minutes. The handler's context ends with the caller's deadline
// and with the subscription or the bus, not when the caller loses patience: a request is carried out whether or not its answer is
// awaited. A request that waited in the queue until after its deadline is answered with ErrTimeout and not carried out. A panic of the
// handler is an error of that request alone.
//
// Closing the subscription ends the handlers' contexts and waits for the handlers, so a handler must not close its own. Close it before
// the bus, which knows nothing of the handlers and does not wait for them.
func Serve[Req, Resp any](b Bus, subject string, opts ServeOptions, h func(ctx context.Context, req Req) (Resp, error)) (Subscription, error) {
	if opts.Concurrency <= 0 {
		opts.Concurrency = DefaultConcurrency
	}
	s := &served{bus: b, slots: make(chan struct{}, opts.Concurrency)}
	one := func(ctx context.Context, m Message) (json.RawMessage, error) {
		var req Req
		if err := json.Unmarshal(m.Data, &req); err != nil {
			return nil, ErrBadRequest.Wrap(err)
		}
		resp, err := h(ctx, req)
		if err != nil {
			return nil, err
		}
		answer, err := json.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("encode answer on %s: %w", m.Subject, err)
		}
		return answer, nil
	}
	sub, err := b.Subscribe(subject, SubscribeOptions{Queue: opts.Queue, Capacity: opts.Capacity, OnGap: gap(subject)},
		func(ctx context.Context, m Message) { s.dispatch(ctx, m, one) })
	if err != nil {
		return nil, err
	}
	s.sub = sub
	return s, nil
}

func gap(subject string) GapHandler {
	return func(ctx context.Context, lost uint64) {
		slog.WarnContext(ctx, "requests lost: more arrived than the queue holds", "subject", subject, "lost", lost)
	}
}

// served is the subscription of Serve.
type served struct {
	bus   Bus
	sub   Subscription
	slots chan struct{} // one element for each handler that runs
	wg    sync.WaitGroup

	mu     sync.Mutex // guards closed, and keeps wg from growing while Close waits for it
	closed bool
}

// dispatch begins one request. ctx ends with the subscription.
func (s *served) dispatch(ctx context.Context, m Message, one func(context.Context, Message) (json.RawMessage, error)) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		s.respond(ctx, m, nil, ended(ctx, ctx.Err()))
		return
	}
	if !s.begin() {
		<-s.slots
		s.respond(ctx, m, nil, ended(ctx, context.Canceled))
		return
	}
	go func() { // ends with the handler, whose context Close ends
		defer func() { <-s.slots; s.wg.Done() }()
		s.answer(ctx, m, one)
	}()
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

// Close implements Subscription.
func (s *served) Close() {
	s.sub.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *served) answer(ctx context.Context, m Message, one func(context.Context, Message) (json.RawMessage, error)) {
	subscription := ctx
	if deadline, err := time.Parse(time.RFC3339Nano, m.Header[HeaderDeadline]); err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	ctx, span := serveSpan(ctx, m)
	var answer json.RawMessage
	err := ctx.Err()
	if err == nil {
		answer, err = guarded(ctx, m, one)
	}
	span.End(err)
	s.respond(ctx, m, answer, ended(subscription, err))
}

// guarded makes a panic of the handler an error.
func guarded(ctx context.Context, m Message, one func(context.Context, Message) (json.RawMessage, error)) (answer json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, errs.ErrInternal.Wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return one(ctx, m)
}

// ended gives the bare errors of contexts a code that tells the caller what happened and that a retry may help.
func ended(subscription context.Context, err error) error {
	var own *errs.Error
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout.WithMessage("the request could not be carried out in time").Wrap(err)
	case errors.Is(err, context.Canceled) && subscription.Err() != nil:
		return ErrClosed.WithMessage("the server of the request stopped before it was carried out").Wrap(err)
	}
	return err
}

// respond sends an answer or an error to whoever waits for it.
func (s *served) respond(ctx context.Context, m Message, answer json.RawMessage, err error) {
	r := reply{Answer: answer}
	if err != nil {
		// The cause of an internal error goes no further than here.
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
		slog.ErrorContext(ctx, "reply could not be encoded", "subject", m.Subject, "error", err)
		return
	}
	if err := s.bus.Publish(context.WithoutCancel(ctx), Message{Subject: m.Reply, Data: data}); err != nil && !errors.Is(err, ErrClosed) {
		slog.WarnContext(ctx, "reply could not be sent", "subject", m.Subject, "error", err)
	}
}
