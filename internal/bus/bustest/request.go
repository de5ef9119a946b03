package bustest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/bus"
)

// answer has a subject answered by f, as often as there are answers.
func (e *env) answer(subject, queue string, f func(m bus.Message) []string) bus.Subscription {
	e.Helper()
	return e.subscribe(subject, bus.SubscribeOptions{Queue: queue}, func(ctx context.Context, m bus.Message) {
		for _, data := range f(m) {
			if err := e.bus.Publish(ctx, bus.Message{Subject: m.Reply, Data: []byte(data), Header: map[string]string{"From": "server"}}); err != nil {
				e.Errorf("answer: %v", err)
			}
		}
	})
}

func (e *env) request(subject, data string) (bus.Message, error) {
	return e.bus.Request(e.ctx, bus.Message{Subject: e.on(subject), Data: []byte(data)})
}

func requestAnswer(e *env) {
	seen := make(chan bus.Message, 1)
	e.answer("ask", "", func(m bus.Message) []string { seen <- m; return []string{"yes"} })
	header := map[string]string{"K": "v"}
	r, err := e.bus.Request(e.ctx, bus.Message{Subject: e.on("ask"), Reply: "ignored", Header: header, Data: []byte("well?")})
	if err != nil {
		e.Fatal(err)
	}
	m := await(e, seen, "the request")
	if !strings.HasPrefix(m.Reply, "_INBOX.") || bus.ValidSubject(m.Reply) != nil {
		e.Errorf("reply to %q", m.Reply)
	}
	if string(m.Data) != "well?" || m.Subject != e.on("ask") || !maps.Equal(m.Header, header) {
		e.Errorf("the request arrived as %v", m)
	}
	if string(r.Data) != "yes" || r.Subject != m.Reply || r.Header["From"] != "server" {
		e.Errorf("the answer arrived as %v", r)
	}
}

func firstReply(e *env) {
	e.answer("twice", "", func(m bus.Message) []string { return []string{"first " + string(m.Data), "second " + string(m.Data)} })
	for i := range 20 {
		r, err := e.request("twice", fmt.Sprint(i))
		if err != nil || string(r.Data) != fmt.Sprint("first ", i) {
			e.Fatalf("request %d: %q, %v", i, r.Data, err)
		}
	}
}

func manyRequests(e *env) {
	e.answer("many", "", func(m bus.Message) []string { return []string{"re: " + string(m.Data)} })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r, err := e.request("many", fmt.Sprint(i))
			if err != nil || string(r.Data) != fmt.Sprint("re: ", i) {
				e.Errorf("request %d: %q, %v", i, r.Data, err)
			}
		})
	}
	wg.Wait()
}

func noResponders(e *env) {
	if _, err := e.request("nobody", ""); !errors.Is(err, bus.ErrNoResponders) {
		e.Errorf("got %v", err)
	}
	sub := e.answer("leaves", "", func(bus.Message) []string { return []string{"here"} })
	if _, err := e.request("leaves", ""); err != nil {
		e.Errorf("got %v", err)
	}
	sub.Close()
	if _, err := e.request("leaves", ""); !errors.Is(err, bus.ErrNoResponders) {
		e.Errorf("after the responder left: %v", err)
	}
	if e.ctx.Err() != nil {
		e.Error("it was found out by waiting")
	}
}

func requestTimeout(e *env) {
	asked := make(chan struct{}, 10)
	e.answer("silent", "", func(bus.Message) []string { asked <- struct{}{}; return nil })
	short, cancel := context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := e.bus.Request(short, bus.Message{Subject: e.on("silent")})
	if !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("deadline: %v", err)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	await(e, asked, "the first request")
	go func() { <-asked; cancel() }() // ends with the request below
	_, err = e.bus.Request(ctx, bus.Message{Subject: e.on("silent")})
	if !errors.Is(err, bus.ErrTimeout) || !errors.Is(err, context.Canceled) {
		e.Errorf("cancel: %v", err)
	}
	_, err = e.bus.Request(ctx, bus.Message{Subject: e.on("silent")})
	if !errors.Is(err, bus.ErrTimeout) {
		e.Errorf("canceled before: %v", err)
	}
	// A reply that comes late finds nobody and does no harm.
	e.answer("ask", "", func(bus.Message) []string { return []string{"yes"} })
	if r, err := e.request("ask", ""); err != nil || string(r.Data) != "yes" {
		e.Errorf("the next request: %q, %v", r.Data, err)
	}
}

func requestQueueGroup(e *env) {
	served := newLog()
	for i := range 3 {
		e.answer("group", "g", func(m bus.Message) []string {
			served.add(string(m.Data))
			return []string{fmt.Sprint(i)}
		})
	}
	for i := range 30 {
		if _, err := e.request("group", fmt.Sprint(i)); err != nil {
			e.Fatal(err)
		}
	}
	if got, _ := served.now(); len(got) != 30 {
		e.Errorf("30 requests were served %d times", len(got))
	}
}
