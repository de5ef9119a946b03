package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// DefaultURI reaches the libvirtd of this host.
const DefaultURI = "qemu:///system"

// Config says how to reach libvirt and how to run guests.
type Config struct {
	URI   string // of libvirtd; empty means DefaultURI
	Accel Accel  // empty means AccelAuto
	Log   *slog.Logger
	// HostsDir is a folder for the fixed leases of DHCPv6. dnsmasq must be able to reach it, as the user that it runs as. Empty: there is no DHCPv6.
	HostsDir string

	PingInterval time.Duration // between two pings to libvirtd; default 5 s
	PingPatience time.Duration // how long it may take to answer one before it is given up; default 15 s

	StatsPatience time.Duration // how long all guests may take to be measured before one of them counts as hung, and 25 ms more for each; default 5 s
}

// Driver is the driver of one libvirtd. Make it with New.
type Driver struct {
	// hosts is held while names and leases of a network are compared and changed: two commands that do so at once would both add one.
	hosts sync.Mutex

	cfg    Config
	accel  Accel
	queue  *queue
	agent  chan struct{} // a slot for each question to a guest agent that may be open at once
	asked  chan struct{} // the same for AskAgent, whose askers are tenants
	stuck  atomic.Int32  // measurements that wait for a guest that hangs
	guests atomic.Int32  // that were measured last

	mu      sync.Mutex // guards what follows
	session *session   // nil while libvirtd is away
	facts   map[uuid.UUID]facts
	defs    uint64 // counts the definitions that changed, so that a stale reading is not kept in facts
	opened  bool
	closed  bool

	stop chan struct{} // closed by Close
	done sync.WaitGroup
}

var _ driver.Driver = (*Driver)(nil)

// agentQuestions bounds how many calls may wait for guest agents at once; libvirtd has some twenty workers for all its clients.
// Those of tenants have slots of their own, so that whoever asks a guest that hangs holds up no snapshot.
const (
	agentQuestions  = 4
	tenantQuestions = 4
)

// New makes a driver that is not connected yet.
func New(cfg Config) *Driver {
	if cfg.URI == "" {
		cfg.URI = DefaultURI
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PingInterval <= 0 {
		cfg.PingInterval = defaultPingInterval
	}
	if cfg.PingPatience <= 0 {
		cfg.PingPatience = defaultPingPatience
	}
	if cfg.StatsPatience <= 0 {
		cfg.StatsPatience = defaultStatsPatience
	}
	return &Driver{
		cfg: cfg, accel: ChooseAccel(cfg.Accel), queue: newQueue(), facts: map[uuid.UUID]facts{},
		agent: make(chan struct{}, agentQuestions), asked: make(chan struct{}, tenantQuestions), stop: make(chan struct{}),
	}
}

// Open implements driver.Driver.
func (d *Driver) Open(_ context.Context, on func(driver.Event)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened || d.closed {
		return nodeapi.ErrHypervisor.WithMessage("the connection to the hypervisor was opened or closed before")
	}
	if err := startEventLoop(d.cfg.Log); err != nil {
		return nodeapi.ErrHypervisor.WithMessage("libvirt could not be loaded").
			WithAction("Install the package libvirt0 (or libvirt-daemon-system) on the node.").Wrap(err)
	}
	d.opened = true
	d.done.Add(2)
	go func() { defer d.done.Done(); d.queue.deliver(on, d.stop) }() // ends with Close
	go func() { defer d.done.Done(); d.keepConnected() }()           // ends with Close
	return nil
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.stop)
	}
	d.mu.Unlock()
	d.done.Wait()
	return nil
}

// connection waits between attempts.
const (
	firstBackOff = 200 * time.Millisecond
	lastBackOff  = 5 * time.Second
)

// keepConnected connects, waits for the end of the connection, and connects again, until Close.
func (d *Driver) keepConnected() {
	wait := firstBackOff
	for {
		s, err := d.connect()
		if err != nil {
			d.cfg.Log.Warn("libvirt is away", "uri", d.cfg.URI, "error", err, "retry_in", wait)
			select {
			case <-d.stop:
				return
			case <-time.After(wait):
			}
			wait = min(wait*2, lastBackOff)
			continue
		}
		if s == nil { // closed while connecting
			return
		}
		wait = firstBackOff
		d.setSession(s)
		d.cfg.Log.Info("connected to libvirt", "uri", d.cfg.URI)
		d.queue.push(rawEvent{connected: true, session: s})
		select {
		case <-s.lost:
			d.setSession(nil)
			d.cfg.Log.Warn("lost the connection to libvirt", "uri", d.cfg.URI)
			d.queue.push(rawEvent{disconnected: true, session: s})
			s.retire()
		case <-d.stop:
			d.setSession(nil)
			s.retire()
			select {
			case <-s.closed:
			case <-s.lost: // what still hangs in it ends with libvirtd
			case <-time.After(d.closeGrace()):
			}
			return
		}
	}
}

// connect opens one connection. It answers nil and no error when the driver is closed meanwhile; a connection that a hung
// libvirtd grants later is closed then.
func (d *Driver) connect() (*session, error) {
	type result struct {
		s   *session
		err error
	}
	got := make(chan result, 1)
	go func() { // ends when libvirt answers
		s, err := newSession(d)
		got <- result{s, err}
	}()
	select {
	case r := <-got:
		return r.s, r.err
	case <-d.stop:
		go func() { // ends when libvirt answers
			if r := <-got; r.s != nil {
				r.s.retire()
			}
		}()
		return nil, nil
	}
}

func (d *Driver) setSession(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session = s
	d.facts = map[uuid.UUID]facts{}
	d.defs++
}

// acquire answers the live session, which the caller releases, or ErrHypervisor.
func (d *Driver) acquire() (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil || !d.session.acquire() {
		return nil, nodeapi.ErrHypervisor
	}
	return d.session, nil
}

// change runs a call that changes something, to its end or to that of the connection.
func (d *Driver) change(ctx context.Context, what string, f func(*libvirt.Connect) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := call(nil, d, what, func(c *libvirt.Connect) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

// ask runs a call that only asks and leaves it behind when ctx ends first.
func ask[T any](ctx context.Context, d *Driver, what string, f func(*libvirt.Connect) (T, error)) (T, error) {
	v, err := call(ctx.Done(), d, what, f)
	if err == errLeft { //nolint:errorlint // our own, as it is
		return v, ctx.Err()
	}
	return v, err
}

var errLeft = errors.New("the caller did not wait")

// lostGrace is how long a call may take to fail by itself once the connection is lost.
const lostGrace = time.Second

// call runs f with the connection. It returns without f's answer when leave is closed, and when the connection is lost: calls to a
// libvirtd that hangs return when that goes on or ends.
func call[T any](leave <-chan struct{}, d *Driver, what string, f func(*libvirt.Connect) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	s, err := d.acquire()
	if err != nil {
		return zero, err
	}
	got := make(chan result, 1)
	go func() { // ends when libvirt answers, at the latest when libvirtd ends
		defer s.release()
		v, err := f(s.conn)
		got <- result{v, mapError(what, err, s)}
	}()
	select {
	case r := <-got:
		return r.v, r.err
	case <-leave:
		return zero, errLeft
	case <-s.lost:
	}
	select {
	case r := <-got:
		return r.v, r.err
	case <-time.After(lostGrace):
		return zero, nodeapi.ErrHypervisor.Wrap(fmt.Errorf("%s: the connection was lost", what))
	}
}
