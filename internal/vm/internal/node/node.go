package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/node/journal"
	"github.com/novacron/novacron/internal/vm/internal/node/report"
	"github.com/novacron/novacron/internal/vm/internal/node/storage"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Node is the node role. Make it with New; it starts once.
type Node struct {
	cfg      Config
	metrics  *metrics
	verbs    map[nodeapi.Verb]verb
	fence    *fence
	once     *once
	guests   *guests
	watch    *watch
	limit    chan struct{} // a slot for each command at work
	consoles chan struct{} // a slot for each open console
	shared   sharedConsoles
	screens  viewers
	store    *storage.Store
	journal  *journal.Journal
	boot     *boot
	reporter *report.Reporter
	epoch    int64

	lifecycle sync.Mutex // held by Start and Stop; guards started and stopped
	started   bool
	stopped   bool
	life      context.Context // ends with Stop
	cancel    context.CancelFunc
	running   sync.WaitGroup // all goroutines of the node

	connected atomic.Bool // the hypervisor is there
	acked     atomic.Bool // the hello was acknowledged
	info      atomic.Pointer[driver.Info]
	pollNow   chan struct{}
	beatNow   chan struct{}
	repairNow chan struct{}
	protected atomic.Bool // the policy is in force
	hostsDue  atomic.Bool // names and leases are to be set whether they have changed or not

	mu           sync.Mutex // guards what follows
	installation uuid.UUID  // zero until the controller told it
	refused      error      // ErrWrongInstallation once another installation answered
	commands     bus.Subscription
}

// New makes a node that is not started.
func New(cfg Config) *Node {
	cfg = cfg.withDefaults()
	n := &Node{
		cfg: cfg, verbs: verbs(), fence: newFence(), once: newOnce(), guests: newGuests(), limit: make(chan struct{}, cfg.Parallel),
		consoles: make(chan struct{}, maxConsoles), pollNow: make(chan struct{}, 1), beatNow: make(chan struct{}, 1), repairNow: make(chan struct{}, 1),
	}
	n.watch = newWatch(n)
	return n
}

// Start opens the node's storage and hypervisor and begins to report. It returns before the hypervisor and the controller have
// answered; Ready tells when they have. Starting again does nothing.
func (n *Node) Start(ctx context.Context) (err error) {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if n.stopped {
		return errors.New("a node starts once")
	}
	if n.started {
		return nil
	}
	if err := n.open(); err != nil {
		return err
	}
	if n.metrics, err = newMetrics(n.cfg.Metrics, n.watch.count, n.cfg.MetricsPerVM); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.life = ctx
	n.reporter = report.New(report.Config{
		NodeID: n.cfg.NodeID, Epoch: n.epoch, Send: n.sendReport, Acked: func(r nodeapi.Report, a nodeapi.Ack) { n.ackedReport(ctx, r, a) },
		Repeated: n.metrics.repeated.Inc, FirstWait: n.cfg.ReportWait, Log: n.cfg.Log,
	})
	if err := n.cfg.Driver.Open(ctx, func(e driver.Event) { n.event(ctx, e) }); err != nil {
		n.cancel()
		n.metrics.unregister()
		return fmt.Errorf("open the hypervisor: %w", err)
	}
	n.started = true
	if n.cfg.Firewall != nil {
		n.running.Go(func() { n.firewallLoop(ctx) })
	}
	n.thawAll(ctx)
	n.running.Go(func() { n.reporter.Run(ctx) }) // these end with ctx
	n.running.Go(func() { n.pollLoop(ctx) })
	n.running.Go(func() { n.heartbeatLoop(ctx) })
	if n.cfg.MetricsInterval > 0 {
		n.running.Go(func() { n.meterLoop(ctx) })
	}
	n.cfg.Log.Info("the node has started", "node_id", n.cfg.NodeID, "epoch", n.epoch)
	return nil
}

// open opens what is on the disk.
func (n *Node) open() (err error) {
	if err := makeFolder(n.cfg.DataDir); err != nil {
		return err
	}
	dir := folder(n.cfg.DataDir)
	if n.journal, err = journal.Open(filepath.Join(dir, "journal"), time.Now()); err != nil {
		return err
	}
	if n.boot, err = openBoot(dir, n.cfg.BootIDPath); err != nil {
		return err
	}
	if n.store, err = storage.Open(dir, n.cfg.Dialer, n.cfg.Log, storage.Cache{Bytes: n.cfg.ImageCacheBytes, Evicted: func(bytes int64) { n.metrics.evictedImage(bytes) }}); err != nil {
		return fmt.Errorf("open the node's storage: %w", err)
	}
	if n.installation, err = readID(n.installationPath()); err != nil {
		return err
	}
	if n.epoch, err = nextEpoch(n.cfg.DataDir); err != nil {
		return err
	}
	return nil
}

func (n *Node) installationPath() string {
	return filepath.Join(folder(n.cfg.DataDir), "installation-id")
}

// Stop ends commands at work, reports and the connection to the hypervisor; guests run on. It is idempotent.
func (n *Node) Stop(ctx context.Context) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if !n.started || n.stopped {
		n.stopped = true
		return nil
	}
	n.stopped = true
	n.cancel()
	done := make(chan error, 1)
	go func() { // ends with the last call on the hypervisor
		n.stopServing()
		n.store.Close()
		n.running.Wait()
		done <- n.cfg.Driver.Close()
	}()
	n.metrics.unregister()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop the node: %w", context.Cause(ctx))
	}
}

// Ready tells whether hypervisor and controller are there.
func (n *Node) Ready(context.Context) error {
	n.mu.Lock()
	refused := n.refused
	n.mu.Unlock()
	switch {
	case refused != nil:
		return refused
	case !n.connected.Load():
		return nodeapi.ErrHypervisor
	case !n.acked.Load():
		return nodeapi.ErrNotReady
	}
	return nil
}

func (n *Node) sendReport(ctx context.Context, r nodeapi.Report) (nodeapi.Ack, error) {
	return bus.Call[nodeapi.Report, nodeapi.Ack](ctx, n.cfg.Bus, bus.SubjectNodeReport(n.cfg.NodeID), r)
}

// event takes in what the hypervisor tells.
func (n *Node) event(ctx context.Context, e driver.Event) {
	switch e.Kind {
	case driver.EventState:
		n.watch.event(ctx, e)
	case driver.EventConnected:
		n.metrics.connects.Inc()
		n.connected.Store(true)
		n.hostsDue.Store(true)
		kick(n.repairNow)
		kick(n.beatNow)
		kick(n.pollNow)
		// A hypervisor that has just come up may change its mind about its guests, and not always tells.
		for _, later := range []time.Duration{time.Second, 3 * time.Second} {
			time.AfterFunc(later, func() { kick(n.pollNow) })
		}
	case driver.EventDisconnected:
		n.connected.Store(false)
		kick(n.beatNow)
	}
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pollLoop makes the hello when the hypervisor is there for the first time, and polls from then on.
func (n *Node) pollLoop(ctx context.Context) {
	poll := time.NewTicker(n.cfg.PollInterval)
	defer poll.Stop()
	ask := time.NewTicker(min(n.cfg.NewAddressInterval, time.Second))
	defer ask.Stop()
	prune := time.NewTicker(24 * time.Hour)
	defer prune.Stop()
	greeted := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-prune.C:
			if err := n.journal.Prune(time.Now()); err != nil {
				n.cfg.Log.Error("old tombstones could not be forgotten", "error", err)
			}
		case <-ask.C:
			n.askAddresses(ctx)
			n.askReady(ctx)
		case <-poll.C:
			greeted = n.look(ctx, greeted)
		case <-n.pollNow:
			greeted = n.look(ctx, greeted)
		}
	}
}

// lookTimeout bounds a look at all domains.
const lookTimeout = time.Minute

// look makes the hello or polls, and tells whether the hello is made.
func (n *Node) look(ctx context.Context, greeted bool) bool {
	if !n.connected.Load() {
		return greeted
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if info, err := n.cfg.Driver.Info(ctx); err == nil {
		n.info.Store(&info)
	}
	if greeted {
		if err := n.watch.poll(ctx); err != nil && n.life.Err() == nil {
			n.cfg.Log.Warn("the virtual machines could not be listed", "error", err)
		}
		return true
	}
	statuses, err := n.watch.hello(ctx)
	if err != nil {
		n.cfg.Log.Warn("the virtual machines could not be listed", "error", err)
		time.AfterFunc(n.cfg.NewAddressInterval, func() { kick(n.pollNow) })
		return false
	}
	n.reporter.Hello(statuses)
	n.finishReverts(n.life)
	n.dropClones()
	return true
}

// askTimeout bounds a question for addresses.
const askTimeout = 10 * time.Second

// askAddresses asks for addresses that are due, each on its own so that a silent guest holds up no other.
func (n *Node) askAddresses(ctx context.Context) {
	if !n.connected.Load() {
		return
	}
	for _, vm := range n.watch.due(time.Now()) {
		n.running.Go(func() { // ends within askTimeout
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			found, err := n.cfg.Driver.Addresses(ctx, vm)
			n.watch.addresses(vm, found, err, time.Now())
		})
	}
}
