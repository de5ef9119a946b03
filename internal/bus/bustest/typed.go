package bustest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/errs"
)

type event struct {
	N    int       `json:"n"`
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

func topic(e *env) {
	top := bus.NewTopic[event](e.on("typed"))
	if top.Subject() != e.on("typed") {
		e.Errorf("subject %q", top.Subject())
	}
	got := make(chan event, 10)
	if _, err := top.Subscribe(e.bus, bus.SubscribeOptions{}, func(_ context.Context, v event) { got <- v }); err != nil {
		e.Fatal(err)
	}
	for i := range 10 {
		want := event{N: i, Name: "größer", At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
		if err := top.Publish(e.ctx, e.bus, want); err != nil {
			e.Fatal(err)
		}
		if v := await(e, got, "an event"); v != want {
			e.Errorf("got %v, want %v", v, want)
		}
	}
	if err := bus.NewTopic[func()](e.on("typed")).Publish(e.ctx, e.bus, nil); err == nil {
		e.Error("what cannot be encoded was published")
	}
}

func topicUndecodable(e *env) {
	got := make(chan event, 10)
	if _, err := bus.NewTopic[event](e.on("typed")).Subscribe(e.bus, bus.SubscribeOptions{}, func(_ context.Context, v event) { got <- v }); err != nil {
		e.Fatal(err)
	}
	for _, data := range []string{"", "{", "[]", `{"n":"text"}`, "\xff", `{"n":7}`} {
		e.publish("typed", data)
	}
	if v := await(e, got, "the good event"); v.N != 7 {
		e.Errorf("got %v", v)
	}
}

type question struct{ Text string }
type answer struct{ Text string }

// The error of a module, as one would cross the bus.
var errTaken = errs.New(errs.Conflict, "bustest.taken", "the name is taken")

func callErrors(e *env) {
	_, err := bus.Serve(e.bus, e.on("serve"), bus.ServeOptions{}, func(_ context.Context, q question) (answer, error) {
		switch q.Text {
		case "taken":
			return answer{}, fmt.Errorf("insert: %w", errTaken.WithMeta("name", "x").WithField("body.name", "taken", "x").AtStep("reserve"))
		case "secret":
			return answer{}, errors.New("password is 1234")
		}
		return answer{"re: " + q.Text}, nil
	})
	if err != nil {
		e.Fatal(err)
	}
	call := func(text string) (answer, error) {
		return bus.Call[question, answer](e.ctx, e.bus, e.on("serve"), question{text})
	}
	if a, err := call("hello"); err != nil || a.Text != "re: hello" {
		e.Errorf("got %v, %v", a, err)
	}
	_, err = call("taken")
	var own *errs.Error
	if !errors.Is(err, errTaken) || !errors.As(err, &own) {
		e.Fatalf("got %v", err)
	}
	if own.Kind != errs.Conflict || own.Message != errTaken.Message || own.Meta["name"] != "x" || len(own.Fields) != 1 || own.Step != "reserve" {
		e.Errorf("something of the error was lost: %+v", own)
	}
	if _, err = call("secret"); !errors.Is(err, errs.ErrInternal) || errors.Unwrap(errs.From(err)) != nil {
		e.Errorf("an error without a code arrives as %v", err)
	}
	if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("nobody"), question{}); !errors.Is(err, bus.ErrNoResponders) {
		e.Errorf("nobody serves: %v", err)
	}
}

func callBadPayloads(e *env) {
	if _, err := bus.Serve(e.bus, e.on("serve"), bus.ServeOptions{}, func(context.Context, question) (answer, error) {
		e.Error("the handler was called")
		return answer{}, nil
	}); err != nil {
		e.Fatal(err)
	}
	if _, err := bus.Call[[]int, answer](e.ctx, e.bus, e.on("serve"), []int{1}); !errors.Is(err, bus.ErrBadRequest) {
		e.Errorf("a request of another type: %v", err)
	}
	if _, err := bus.Call[chan int, answer](e.ctx, e.bus, e.on("serve"), nil); err == nil {
		e.Error("a request that cannot be encoded was sent")
	}
	replies := make(chan string, 1)
	e.answer("odd", "", func(bus.Message) []string { return []string{<-replies} })
	for _, reply := range []string{"", "no JSON", `{}`, `{"answer":[]}`, `{"error":"no error"}`} {
		replies <- reply
		if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("odd"), question{}); err == nil {
			e.Errorf("reply %q was taken for an answer", reply)
		}
	}
	if _, err := bus.Serve(e.bus, e.on("unencodable"), bus.ServeOptions{}, func(context.Context, question) (chan int, error) {
		return make(chan int), nil
	}); err != nil {
		e.Fatal(err)
	}
	if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("unencodable"), question{}); !errors.Is(err, errs.ErrInternal) {
		e.Errorf("an answer that cannot be encoded: %v", err)
	}
}

func callDeadline(e *env) {
	if _, err := bus.Serve(e.bus, e.on("deadline"), bus.ServeOptions{}, func(ctx context.Context, wait bool) (seen seenDeadline, err error) {
		if wait {
			<-ctx.Done()
			return seen, ctx.Err()
		}
		seen.Deadline, seen.Has = ctx.Deadline()
		return seen, nil
	}); err != nil {
		e.Fatal(err)
	}
	want := time.Now().Add(patience)
	ctx, cancel := context.WithDeadline(e.ctx, want)
	defer cancel()
	got, err := bus.Call[bool, seenDeadline](ctx, e.bus, e.on("deadline"), false)
	if err != nil || !got.Has || !got.Deadline.Equal(want) {
		e.Errorf("the handler saw %v, want %v: %v", got, want, err)
	}
	if got, err = bus.Call[bool, seenDeadline](context.Background(), e.bus, e.on("deadline"), false); err != nil || got.Has {
		e.Errorf("without a deadline the handler saw %v: %v", got, err)
	}
	// Whether the caller's wait or the handler's answer ends first: it is the same error.
	ctx, cancel = context.WithTimeout(e.ctx, 200*time.Millisecond)
	defer cancel()
	if _, err = bus.Call[bool, seenDeadline](ctx, e.bus, e.on("deadline"), true); !errors.Is(err, bus.ErrTimeout) {
		e.Errorf("got %v", err)
	}
	// The handler alone has the deadline here.
	r, err := e.bus.Request(e.ctx, bus.Message{
		Subject: e.on("deadline"), Data: []byte("true"),
		Header: map[string]string{bus.HeaderDeadline: time.Now().Add(50 * time.Millisecond).Format(time.RFC3339Nano)},
	})
	if err != nil {
		e.Fatal(err)
	}
	if !strings.Contains(string(r.Data), bus.ErrTimeout.Code) {
		e.Errorf("a handler whose deadline passed answers %s", r.Data)
	}
}

type seenDeadline struct {
	Deadline time.Time
	Has      bool
}

func callerGivesUp(e *env) {
	begun, finish, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	if _, err := bus.Serve(e.bus, e.on("long"), bus.ServeOptions{}, func(ctx context.Context, _ question) (answer, error) {
		close(begun)
		<-finish
		result <- ctx.Err()
		return answer{}, nil
	}); err != nil {
		e.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(e.ctx)
	failed := make(chan error, 1)
	go func() { _, err := bus.Call[question, answer](ctx, e.bus, e.on("long"), question{}); failed <- err }()
	await(e, begun, "the handler")
	giveUp()
	if err := await(e, failed, "the caller"); !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.Canceled) {
		e.Errorf("the caller got %v", err)
	}
	close(finish)
	if err := await(e, result, "the handler"); err != nil {
		e.Errorf("the handler was told to stop: %v", err)
	}
}

// callExpired: what waited for its turn until nobody wants it any more is not carried out.
func callExpired(e *env) {
	release, begun := make(chan struct{}), make(chan struct{}, 10)
	var calls atomic.Int32
	if _, err := bus.Serve(e.bus, e.on("narrow"), bus.ServeOptions{Concurrency: 1}, func(context.Context, question) (answer, error) {
		calls.Add(1)
		begun <- struct{}{}
		<-release
		return answer{}, nil
	}); err != nil {
		e.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("narrow"), question{}); first <- err }()
	await(e, begun, "the first call")
	ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := bus.Call[question, answer](ctx, e.bus, e.on("narrow"), question{}); !errors.Is(err, bus.ErrTimeout) {
		e.Errorf("got %v", err)
	}
	close(release)
	if err := await(e, first, "the first call"); err != nil {
		e.Error(err)
	}
	// The next answer proves that the expired request has had its turn.
	if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("narrow"), question{}); err != nil {
		e.Error(err)
	}
	if n := calls.Load(); n != 2 {
		e.Errorf("%d requests were carried out, want 2", n)
	}
}

func serveConcurrency(e *env) {
	const limit, requests = 5, 12
	var now, most atomic.Int32
	begun, release := make(chan struct{}, requests), make(chan struct{})
	if _, err := bus.Serve(e.bus, e.on("wide"), bus.ServeOptions{Concurrency: limit}, func(context.Context, question) (answer, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		begun <- struct{}{}
		<-release
		return answer{}, nil
	}); err != nil {
		e.Fatal(err)
	}
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("wide"), question{}); err != nil {
				e.Error(err)
			}
		})
	}
	for range limit { // a serial one would never begin the second
		await(e, begun, "as many handlers as allowed")
	}
	close(release)
	wg.Wait()
	if n := most.Load(); n != limit {
		e.Errorf("%d handlers at once, want %d", n, limit)
	}
}

func servePanic(e *env) {
	if _, err := bus.Serve(e.bus, e.on("panic"), bus.ServeOptions{Concurrency: 1}, func(_ context.Context, q question) (answer, error) {
		if q.Text == "panic" {
			panic("a handler panics, as the test wants it to")
		}
		return answer(q), nil
	}); err != nil {
		e.Fatal(err)
	}
	for range 3 {
		if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("panic"), question{"panic"}); !errors.Is(err, errs.ErrInternal) {
			e.Errorf("got %v", err)
		}
		if a, err := bus.Call[question, answer](e.ctx, e.bus, e.on("panic"), question{"fine"}); err != nil || a.Text != "fine" {
			e.Errorf("got %v, %v", a, err)
		}
	}
}

// serveClose: closing ends the handlers' contexts and waits for the handlers; callers learn of it without a time-out.
func serveClose(e *env) {
	begun := make(chan struct{}, 10)
	var running atomic.Int32
	sub, err := bus.Serve(e.bus, e.on("stop"), bus.ServeOptions{Concurrency: 2}, func(ctx context.Context, _ question) (answer, error) {
		running.Add(1)
		defer running.Add(-1)
		begun <- struct{}{}
		<-ctx.Done()
		return answer{}, ctx.Err()
	})
	if err != nil {
		e.Fatal(err)
	}
	failed := make(chan error, 2)
	for range cap(failed) {
		go func() { _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("stop"), question{}); failed <- err }()
	}
	await(e, begun, "a handler")
	await(e, begun, "another handler")
	sub.Close()
	if n := running.Load(); n != 0 {
		e.Errorf("%d handlers run after Close", n)
	}
	sub.Close()
	for range cap(failed) {
		if err := await(e, failed, "a caller"); !errors.Is(err, bus.ErrClosed) {
			e.Errorf("a caller got %v", err)
		}
	}
	if _, err := bus.Call[question, answer](e.ctx, e.bus, e.on("stop"), question{}); !errors.Is(err, bus.ErrNoResponders) {
		e.Errorf("after Close: %v", err)
	}
}
