package bustest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/novacron/novacron/internal/bus"
)

func wildcards(e *env) {
	subjects := []string{"a", "b", "a.b", "a.c", "a.b.c", "a.b.d", "a.b.c.d", "b.b", "A.b", "aa.b"}
	for _, c := range []struct {
		pattern string
		want    string // subjects, in the order above
	}{
		{"a", "a"}, {"a.b", "a.b"}, {"a.b.c", "a.b.c"}, {"z", ""},
		{"*", "a b"}, {"a.*", "a.b a.c"}, {"*.b", "a.b b.b A.b aa.b"}, {"*.*", "a.b a.c b.b A.b aa.b"},
		{"a.*.c", "a.b.c"}, {"a.*.*", "a.b.c a.b.d"}, {"*.b.*", "a.b.c a.b.d"},
		{">", strings.Join(subjects, " ")}, {"a.>", "a.b a.c a.b.c a.b.d a.b.c.d"}, {"a.b.>", "a.b.c a.b.d a.b.c.d"},
		{"*.>", "a.b a.c a.b.c a.b.d a.b.c.d b.b A.b aa.b"}, {"a.*.>", "a.b.c a.b.d a.b.c.d"}, {"a.b.c.d.>", ""},
	} {
		// Each pattern has a branch of its own, and a fence that its subscription is sure to get.
		branch := fmt.Sprintf("w%x", c.pattern)
		fence := branch + "." + strings.NewReplacer("*", "fence", ">", "fence").Replace(c.pattern)
		got := newLog()
		e.subscribe(branch+"."+c.pattern, bus.SubscribeOptions{}, func(_ context.Context, m bus.Message) {
			if string(m.Data) == "fence" {
				got.add("fence")
				return
			}
			got.add(strings.TrimPrefix(m.Subject, e.on(branch)+"."))
		})
		for _, s := range subjects {
			e.publish(branch+"."+s, "")
		}
		e.publish(fence, "fence")
		entries := got.contains(e, "fence")
		if have := strings.Join(entries[:len(entries)-1], " "); have != c.want {
			e.Errorf("%s got %q, want %q", c.pattern, have, c.want)
		}
	}
}

func invalidSubjects(e *env) {
	for _, s := range []string{"", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\n", "a\x00b", "a.>.b", "a*", ">b", strings.Repeat("a", 2000)} {
		if _, err := e.bus.Subscribe(s, bus.SubscribeOptions{}, newLog().data); !errors.Is(err, bus.ErrInvalidSubject) {
			e.Errorf("subscribe to %q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a.", ".a", "a..b", "a b", "a\r\n", "*", ">", "a.*", "a.>", "a*", strings.Repeat("a", 2000)} {
		if err := e.bus.Publish(e.ctx, bus.Message{Subject: s}); !errors.Is(err, bus.ErrInvalidSubject) {
			e.Errorf("publish on %q: %v", s, err)
		}
		if _, err := e.bus.Request(e.ctx, bus.Message{Subject: s}); !errors.Is(err, bus.ErrInvalidSubject) {
			e.Errorf("request on %q: %v", s, err)
		}
	}
	if _, err := e.bus.Subscribe(e.on("a"), bus.SubscribeOptions{Queue: "a b"}, newLog().data); !errors.Is(err, bus.ErrInvalidSubject) {
		e.Errorf("queue group with a blank in its name: %v", err)
	}
}

func wholeMessage(e *env) {
	got := make(chan bus.Message, 1)
	e.subscribe("whole.>", bus.SubscribeOptions{}, func(_ context.Context, m bus.Message) { got <- m })
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, data := range map[string][]byte{"nothing": nil, "empty": {}, "every byte": every, "100 KiB": slices.Repeat(every, 400)} {
		want := bus.Message{
			Subject: e.on("whole.message"), Reply: e.on("answers"), Data: data,
			Header: map[string]string{"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Nova-Test": "a: b, c"},
		}
		if err := e.bus.Publish(e.ctx, want); err != nil {
			e.Fatal(err)
		}
		m := await(e, got, name)
		if m.Subject != want.Subject || m.Reply != want.Reply || string(m.Data) != string(want.Data) || !maps.Equal(m.Header, want.Header) {
			e.Errorf("%s arrived as %.200v", name, m)
		}
	}
	e.publish("whole.plain", "")
	if m := await(e, got, "a plain message"); m.Reply != "" || len(m.Header) != 0 || len(m.Data) != 0 {
		e.Errorf("a plain message arrived as %v", m)
	}
}

func bufferReuse(e *env) {
	g := newGate()
	headers := newLog()
	e.subscribe("reuse", bus.SubscribeOptions{}, func(ctx context.Context, m bus.Message) {
		g.handle(ctx, m)
		headers.add(m.Header["N"])
	})
	buffer, header := []byte("first"), map[string]string{"N": "1"}
	for _, v := range [][2]string{{"first", "1"}, {"secon", "2"}, {"third", "3"}} {
		copy(buffer, v[0])
		header["N"] = v[1]
		if err := e.bus.Publish(e.ctx, bus.Message{Subject: e.on("reuse"), Data: buffer, Header: header}); err != nil {
			e.Fatal(err)
		}
	}
	copy(buffer, "XXXXX")
	header["N"] = "X"
	close(g.release)
	if got := g.count(e, 3, "three messages"); !slices.Equal(got, []string{"first", "secon", "third"}) {
		e.Errorf("got %q", got)
	}
	if got := headers.count(e, 3, "three headers"); !slices.Equal(got, []string{"1", "2", "3"}) {
		e.Errorf("got headers %q", got)
	}
}

func order(e *env) {
	const publishers, each = 4, 500
	exact, wild := newLog(), newLog()
	e.subscribe("order", bus.SubscribeOptions{Capacity: publishers * each}, exact.data)
	e.subscribe("*", bus.SubscribeOptions{Capacity: publishers * each}, wild.data)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := e.bus.Publish(e.ctx, bus.Message{Subject: e.on("order"), Data: fmt.Appendf(nil, "%d %d", p, i)}); err != nil {
					e.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for name, l := range map[string]*log{"exact": exact, "wildcard": wild} {
		var next [publishers]int
		for _, entry := range l.count(e, publishers*each, "all messages") {
			var p, i int
			if _, err := fmt.Sscan(entry, &p, &i); err != nil {
				e.Fatal(err)
			}
			if next[p] != i {
				e.Fatalf("%s: message %d of publisher %d came when %d was due", name, i, p, next[p])
			}
			next[p]++
		}
	}
}

// oneEach: overlapping subscriptions each get a message once, also two that are equal.
func oneEach(e *env) {
	logs := map[string]*log{}
	for _, pattern := range []string{"each.x", "each.x", "each.*", "each.>", "*.x", ">"} {
		l := newLog()
		logs[fmt.Sprint(pattern, len(logs))] = l
		e.subscribe(pattern, bus.SubscribeOptions{}, l.data)
	}
	for _, data := range []string{"1", "2", "3"} {
		e.publish("each.x", data)
	}
	for pattern, l := range logs {
		if got := l.contains(e, "3"); !slices.Equal(got, []string{"1", "2", "3"}) {
			e.Errorf("%s got %q", pattern, got)
		}
	}
}

func nobodyListens(e *env) {
	e.publish("nobody", "lost")
	got := newLog()
	e.subscribe("nobody", bus.SubscribeOptions{}, got.data)
	e.publish("nobody", "found")
	if entries := got.contains(e, "found"); len(entries) != 1 {
		e.Errorf("a message from before the subscription arrived: %q", entries)
	}
}

func queueGroup(e *env) {
	const messages = 300
	groups := map[string]*log{"g": newLog(), "h": newLog(), "": newLog()}
	var members []*log
	for _, group := range []string{"g", "g", "g", "h", "h", ""} {
		own := newLog()
		members = append(members, own)
		e.subscribe("work", bus.SubscribeOptions{Queue: group}, func(ctx context.Context, m bus.Message) {
			own.data(ctx, m)
			groups[group].data(ctx, m)
		})
	}
	for i := range messages {
		e.publish("work", fmt.Sprint(i))
	}
	// Every message arrives once in each group, whoever got it.
	for name, group := range groups {
		got := group.count(e, messages, "all the work of group "+name)
		seen := map[string]bool{}
		for _, entry := range got {
			seen[entry] = true
		}
		if len(got) != messages || len(seen) != messages {
			e.Errorf("group %q got %d messages, %d different, want %d", name, len(got), len(seen), messages)
		}
	}
	// The work is shared: that one of three gets none of 300 by chance happens once in 10^52 runs.
	for i, m := range members {
		if got, _ := m.now(); len(got) == 0 {
			e.Errorf("member %d got nothing", i)
		}
	}
}

func queueGroupMembers(e *env) {
	stays, leaves := newLog(), newLog()
	e.subscribe("shift.*", bus.SubscribeOptions{Queue: "g"}, stays.data)
	sub := e.subscribe("shift.x", bus.SubscribeOptions{Queue: "g"}, leaves.data)
	sub.Close()
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		e.publish("shift.x", fmt.Sprint(i))
	}
	if got := stays.count(e, 50, "what the other member would have got"); !slices.Equal(got, want) {
		e.Errorf("got %q", got)
	}
	if got, _ := leaves.now(); len(got) != 0 {
		e.Errorf("a member that left got %q", got)
	}
}
