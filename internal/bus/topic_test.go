package bus_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/membus"
)

// A publisher of another version repeats itself; the log gets fewer and fewer of it, with the count.
func TestUndecodableMessagesAreLoggedSparsely(t *testing.T) {
	var out bytes.Buffer
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(previous)
	b := membus.New()
	done := make(chan int, 1)
	if _, err := bus.NewTopic[int]("numbers").Subscribe(b, bus.SubscribeOptions{}, func(_ context.Context, n int) { done <- n }); err != nil {
		t.Fatal(err)
	}
	publish := func(data string) {
		if err := b.Publish(t.Context(), bus.Message{Subject: "numbers", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 9 {
		publish("no number")
	}
	publish("7")
	if n := <-done; n != 7 {
		t.Errorf("got %d", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	log := out.String()
	if n := strings.Count(log, "cannot be decoded"); n != 4 {
		t.Errorf("%d lines, want those of the 1st, 2nd, 4th and 8th:\n%s", n, log)
	}
	if !strings.Contains(log, "dropped=8") || !strings.Contains(log, "subject=numbers") {
		t.Errorf("count or subject is missing:\n%s", log)
	}
}
