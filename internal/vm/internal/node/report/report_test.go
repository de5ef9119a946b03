package report_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node/report"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// controller takes reports, or does not.
type controller struct {
	mu     sync.Mutex // guards what follows
	sent   []nodeapi.Report
	answer error
}

func (c *controller) send(_ context.Context, r nodeapi.Report) (nodeapi.Ack, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, r)
	return nodeapi.Ack{}, c.answer
}

func (c *controller) set(answer error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *controller) reports() []nodeapi.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

// run starts a reporter inside a bubble with a clock of its own.
func run(t *testing.T, test func(t *testing.T, r *report.Reporter, c *controller)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := &controller{}
		r := report.New(report.Config{
			NodeID: uuid.New(), Epoch: 4, Log: slog.New(slog.DiscardHandler), Send: c.send,
			Acked: func(nodeapi.Report, nodeapi.Ack) {},
		})
		go r.Run(ctx) // ends with ctx
		test(t, r, c)
	})
}

func status(vm uuid.UUID, o nodeapi.Observed, reason string) nodeapi.Status {
	return nodeapi.Status{VMID: vm, Observed: o, Reason: reason}
}

func TestHelloComesFirstAndOnce(t *testing.T) {
	run(t, func(t *testing.T, r *report.Reporter, c *controller) {
		vm := uuid.New()
		r.Tell(status(vm, nodeapi.ObservedRunning, ""))
		synctest.Wait()
		if len(c.reports()) != 0 {
			t.Fatal("a report went before the hello")
		}
		r.Hello(nil)
		r.Hello(nil)
		synctest.Wait()
		sent := c.reports()
		if len(sent) != 2 || !sent[0].Hello || sent[1].Hello || sent[0].Seq != 1 || sent[1].Seq != 2 || sent[1].Epoch != 4 {
			t.Errorf("sent %+v", sent)
		}
	})
}

func TestRepeatsUntilAcknowledged(t *testing.T) {
	run(t, func(t *testing.T, r *report.Reporter, c *controller) {
		c.set(errors.New("away"))
		r.Hello(nil)
		<-time.After(time.Minute) // of the bubble's clock
		sent := c.reports()
		n := len(sent)
		if n < 10 || n > 20 {
			t.Errorf("%d attempts in a minute", n)
		}
		for _, again := range sent {
			if again.ID != sent[0].ID || again.Seq != 1 {
				t.Fatalf("the repeated report differs: %+v", again)
			}
		}
		// What happened meanwhile keeps its order; each change of state is told.
		vm, other := uuid.New(), uuid.New()
		want := []nodeapi.Status{
			status(vm, nodeapi.ObservedRunning, "with address"), status(other, nodeapi.ObservedStopped, ""),
			status(vm, nodeapi.ObservedStopped, ""), status(vm, nodeapi.ObservedRunning, "again"),
		}
		r.Tell(status(vm, nodeapi.ObservedRunning, "booted"))
		for _, s := range want {
			r.Tell(s)
		}
		c.set(nil)
		<-time.After(10 * time.Second)
		sent = c.reports()
		last := sent[len(sent)-1]
		if diff := cmp.Diff(want, last.Statuses); diff != "" || last.Seq != 2 {
			t.Errorf("seq %d (-want +got):\n%s", last.Seq, diff)
		}
		if total := len(sent); total > n+2 {
			t.Errorf("%d more reports than needed", total-n-2)
		}
	})
}

func TestManyStatusesAreCutUp(t *testing.T) {
	run(t, func(t *testing.T, r *report.Reporter, c *controller) {
		c.set(errors.New("away"))
		r.Hello(nil)
		synctest.Wait()
		for range 600 {
			r.Tell(status(uuid.New(), nodeapi.ObservedRunning, ""))
		}
		c.set(nil)
		<-time.After(10 * time.Second)
		total := 0
		for _, r := range c.reports() {
			total += len(r.Statuses)
			if len(r.Statuses) > 256 {
				t.Errorf("a report of %d statuses", len(r.Statuses))
			}
		}
		if total != 600 {
			t.Errorf("%d statuses arrived", total)
		}
	})
}
