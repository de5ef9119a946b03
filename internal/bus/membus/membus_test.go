package membus_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/bustest"
	"github.com/novacron/novacron/internal/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Bus { return membus.New() })
}

func ignore(context.Context, bus.Message) {}

func TestIdleSubscriptionsCostNoGoroutine(t *testing.T) {
	b := membus.New()
	defer b.Close()
	before := runtime.NumGoroutine()
	for i := range 1000 {
		if _, err := b.Subscribe(fmt.Sprint("idle.", i), bus.SubscribeOptions{}, ignore); err != nil {
			t.Fatal(err)
		}
	}
	if after := runtime.NumGoroutine(); after > before+10 {
		t.Errorf("%d goroutines for 1000 idle subscriptions", after-before)
	}
}

func TestLostIsCounted(t *testing.T) {
	b := membus.New()
	release, begun := make(chan struct{}), make(chan struct{}, 100)
	if _, err := b.Subscribe("x", bus.SubscribeOptions{Capacity: 10}, func(context.Context, bus.Message) { begun <- struct{}{}; <-release }); err != nil {
		t.Fatal(err)
	}
	publish := func() {
		if err := b.Publish(t.Context(), bus.Message{Subject: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	<-begun
	for range 25 { // ten wait
		publish()
	}
	if got := b.Lost(); got != 15 {
		t.Errorf("%d were lost, want 15", got)
	}
	close(release)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// A handler that appends to what it was given must not write into the memory of another.
func TestAppendingToDataIsPrivate(t *testing.T) {
	b := membus.New()
	got := make(chan string, 2)
	for range 2 {
		if _, err := b.Subscribe("x", bus.SubscribeOptions{}, func(_ context.Context, m bus.Message) {
			if cap(m.Data) != len(m.Data) {
				t.Error("there is room behind the payload")
			}
			got <- string(m.Data)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish(t.Context(), bus.Message{Subject: "x", Data: []byte("13 characters")}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s := <-got; s != "13 characters" {
			t.Errorf("got %q", s)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// The cost of a publication must depend on who gets it, not on who is there. The baseline is what one would write without a bus: a send to
// one Go channel per receiver.
func BenchmarkPublish(b *testing.B) {
	data := []byte(strings.Repeat("x", 256))
	for _, n := range []int{1, 100, 10_000} {
		everyone := func(int) string { return "vm.events" }
		b.Run(fmt.Sprintf("to all of %d", n), func(b *testing.B) { benchmarkPublish(b, n, everyone, "vm.events", data) })
		b.Run(fmt.Sprintf("to one of %d", n), func(b *testing.B) {
			benchmarkPublish(b, n, func(i int) string { return fmt.Sprintf("vm.node.%d.cmd", i) }, "vm.node.0.cmd", data)
		})
		b.Run(fmt.Sprintf("to one of %d wildcards", n), func(b *testing.B) {
			benchmarkPublish(b, n, func(i int) string { return fmt.Sprintf("vm.node.%d.*", i) }, "vm.node.0.cmd", data)
		})
		b.Run(fmt.Sprintf("baseline channels %d", n), func(b *testing.B) {
			channels := make([]chan []byte, n)
			for i := range channels {
				channels[i] = make(chan []byte, 1024)
				go func() {
					for range channels[i] {
					}
				}()
				defer close(channels[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				m := append([]byte(nil), data...)
				for _, c := range channels {
					c <- m
				}
			}
		})
	}
}

func benchmarkPublish(b *testing.B, n int, pattern func(int) string, subject string, data []byte) {
	m := membus.New()
	defer m.Close()
	for i := range n {
		if _, err := m.Subscribe(pattern(i), bus.SubscribeOptions{}, ignore); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Publish(b.Context(), bus.Message{Subject: subject, Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	// What finds a queue full is cheaper than what is delivered, and the baseline delivers everything: the two compare where this is 0.
	b.ReportMetric(float64(m.Lost())/float64(b.N), "lost/op")
}

func BenchmarkRequest(b *testing.B) {
	m := membus.New()
	defer m.Close()
	if _, err := m.Subscribe("ask", bus.SubscribeOptions{}, func(ctx context.Context, q bus.Message) {
		_ = m.Publish(ctx, bus.Message{Subject: q.Reply, Data: q.Data})
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Request(b.Context(), bus.Message{Subject: "ask", Data: []byte("x")}); err != nil {
			b.Fatal(err)
		}
	}
}
