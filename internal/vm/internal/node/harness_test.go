package node_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/node"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// patience is how long tests wait for what should take a moment.
const patience = 60 * time.Second

// controller stands in for the other role: it takes reports and heartbeats, and sends commands over the bus.
type controller struct {
	t            *testing.T
	bus          bus.Bus
	node         uuid.UUID
	installation uuid.UUID

	mu      sync.Mutex // guards what follows
	reports []nodeapi.Report
	beats   []event.NodeHeartbeat
	refuse  error         // what reports are answered with
	change  chan struct{} // closed and replaced when something arrives
}

func newController(t *testing.T, nodeID uuid.UUID) *controller {
	t.Helper()
	c := &controller{t: t, bus: membus.New(), node: nodeID, installation: uuid.New(), change: make(chan struct{})}
	reports, err := bus.Serve(c.bus, bus.SubjectNodeReports, bus.ServeOptions{}, c.report)
	if err != nil {
		t.Fatal(err)
	}
	beats, err := bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat).Subscribe(c.bus, bus.SubscribeOptions{}, c.beat)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reports.Close(); beats.Close(); c.bus.Close() })
	return c
}

func (c *controller) changed() {
	close(c.change)
	c.change = make(chan struct{})
}

func (c *controller) report(_ context.Context, r nodeapi.Report) (nodeapi.Ack, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, r)
	c.changed()
	if c.refuse != nil {
		return nodeapi.Ack{}, c.refuse
	}
	return nodeapi.Ack{InstallationID: c.installation}, nil
}

func (c *controller) beat(_ context.Context, h event.NodeHeartbeat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats = append(c.beats, h)
	c.changed()
}

// set changes how the controller answers.
func (c *controller) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.changed()
}

// wait waits until a condition on what arrived holds; the condition runs under the lock.
func (c *controller) wait(what string, cond func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		ok, change := cond(), c.change
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("waited in vain for %s; reports: %+v", what, c.reports)
		}
	}
}

// told lists what was told of a virtual machine, each report once.
func (c *controller) told(vm uuid.UUID) []nodeapi.Observed {
	var told []nodeapi.Observed
	seen := map[uuid.UUID]bool{}
	for _, r := range c.reports {
		if seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		for _, s := range r.Statuses {
			if s.VMID == vm {
				told = append(told, s.Observed)
			}
		}
	}
	return told
}

func (c *controller) waitTold(vm uuid.UUID, want ...nodeapi.Observed) {
	c.t.Helper()
	c.wait("the states", func() bool { return slices.Equal(c.told(vm), want) })
}

func (c *controller) last(vm uuid.UUID) nodeapi.Status {
	for _, r := range slices.Backward(c.reports) {
		for _, s := range slices.Backward(r.Statuses) {
			if s.VMID == vm {
				return s
			}
		}
	}
	return nodeapi.Status{}
}

// send sends a command and decodes its answer.
func send[Resp any](ctx context.Context, c *controller, vm uuid.UUID, generation int64, verb nodeapi.Verb, req any) (Resp, error) {
	client := &nodeapi.Client{Bus: c.bus, InstallationID: c.installation}
	return nodeapi.Do[Resp](ctx, client, nodeapi.Target{NodeID: c.node, VMID: vm, Generation: generation}, verb, req)
}

// do sends a command that must succeed.
func do[Resp any](c *controller, vm uuid.UUID, generation int64, verb nodeapi.Verb, req any) Resp {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	resp, err := send[Resp](ctx, c, vm, generation, verb, req)
	if err != nil {
		c.t.Fatalf("%s: %v", verb, err)
	}
	return resp
}

// again sends the very same command as often as is asked.
func (c *controller) again(times int, cmd nodeapi.Command) []error {
	errs := make([]error, times)
	for i := range errs {
		_, errs[i] = bus.Call[nodeapi.Command, json.RawMessage](c.t.Context(), c.bus, bus.SubjectNodeCommand(c.node), cmd)
	}
	return errs
}

// start runs a node until the test ends or stop is called.
func start(t *testing.T, c *controller, dataDir string, d driver.Driver, change ...func(*node.Config)) (n *node.Node, stop func()) {
	t.Helper()
	cfg := node.Config{
		NodeID: c.node, Name: "test", DataDir: dataDir, Version: "1", Bus: c.bus, Driver: d,
		Log:               slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		HeartbeatInterval: 50 * time.Millisecond, PollInterval: 100 * time.Millisecond, NewAddressInterval: 20 * time.Millisecond,
		AddressInterval: 200 * time.Millisecond, PressInterval: 50 * time.Millisecond,
		ReportWait: 10 * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	n = node.New(cfg)
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

// ready waits until the node is.
func ready(t *testing.T, n *node.Node) {
	t.Helper()
	eventually(t, "readiness", func() error { return n.Ready(t.Context()) })
}

// eventually polls until f answers nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}
