package libvirt

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
)

// A libvirtd that hangs is given up when it has not answered a ping for this long. libvirt has a keepalive of its own for that, which
// is left off: when it strikes with more than one call under way, libvirt 9.0.0 fails the first, leaves the socket to the thread of
// the second, and that one then waits for ever or ends the process with a segmentation fault.
const (
	defaultPingInterval = 5 * time.Second
	defaultPingPatience = 15 * time.Second
)

// eventLoop is the state of libvirt's event loop, which the C library has once per process: it must be registered before the
// first connection and cannot be ended. This is why it stands at package level.
var eventLoop struct {
	once sync.Once
	err  error
}

func startEventLoop(log *slog.Logger) error {
	eventLoop.once.Do(func() {
		if eventLoop.err = libvirt.EventRegisterDefaultImpl(); eventLoop.err != nil {
			return
		}
		go func() { // lives as long as the process
			for {
				if err := libvirt.EventRunDefaultImpl(); err != nil {
					log.Error("libvirt's event loop stumbled", "error", err)
					time.Sleep(time.Second) // a broken loop must not eat a processor
				}
			}
		}()
	})
	return eventLoop.err
}

// session is one connection to libvirtd. It counts the calls that are under way and closes the connection after the last.
type session struct {
	conn     *libvirt.Connect
	callback int           // id of the lifecycle subscription
	lost     chan struct{} // closed when libvirtd hung up
	retiring chan struct{} // closed by retire
	closed   chan struct{} // closed when the connection is closed

	mu      sync.Mutex // guards what follows
	users   int
	retired bool
	gone    bool
}

func newSession(d *Driver) (*session, error) {
	conn, err := libvirt.NewConnect(d.cfg.URI)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, callback: -1, lost: make(chan struct{}), retiring: make(chan struct{}), closed: make(chan struct{})}
	if err := s.watch(d); err != nil {
		s.retire()
		return nil, err
	}
	go s.ping(d.cfg.PingInterval, d.cfg.PingPatience) // ends with the session
	return s, nil
}

func (s *session) watch(d *Driver) error {
	err := s.conn.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { s.markLost() })
	if err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return fmt.Errorf("watch for the connection's end: %w", err)
	}
	s.callback, err = s.conn.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, dom *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		id, ok := managedID(dom)
		if !ok {
			return
		}
		if e.Event == libvirt.DOMAIN_EVENT_DEFINED || e.Event == libvirt.DOMAIN_EVENT_UNDEFINED {
			d.forget(id)
		}
		d.queue.push(rawEvent{session: s, driver: d, vm: id, event: e.Event, detail: e.Detail, boot: bootOf(dom), at: time.Now()})
	})
	if err != nil {
		return fmt.Errorf("subscribe to lifecycle events: %w", err)
	}
	return nil
}

func (s *session) markLost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.gone = true
		close(s.lost)
	}
}

// ping finds a libvirtd that hangs: the connection counts as lost then, though it is closed only when the calls that wait in it
// have returned, which they do when libvirtd goes on or ends. It ends with the session.
func (s *session) ping(interval, patience time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.lost:
			return
		case <-s.retiring:
			return
		}
		if !s.acquire() {
			return
		}
		answered := make(chan struct{})
		go func() { // ends when libvirtd answers or ends
			defer s.release()
			_, _ = s.conn.GetLibVersion() // an error is an answer, too
			close(answered)
		}()
		select {
		case <-answered:
		case <-time.After(patience):
			s.markLost()
			return
		case <-s.lost:
			return
		case <-s.retiring:
			return
		}
	}
}

// forget drops what is remembered of a definition that changed.
func (d *Driver) forget(id uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.facts, id)
	d.defs++
}

func (s *session) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.users++
	return true
}

func (s *session) release() {
	s.mu.Lock()
	s.users--
	last := s.retired && s.users == 0
	s.mu.Unlock()
	if last {
		s.close()
	}
}

// retire lets no new call in and closes the connection when the last one has returned.
func (s *session) retire() {
	s.mu.Lock()
	if s.retired {
		s.mu.Unlock()
		return
	}
	s.retired = true
	close(s.retiring)
	last := s.users == 0
	s.mu.Unlock()
	if last {
		s.close()
	}
}

func (s *session) close() {
	if s.callback >= 0 {
		_ = s.conn.DomainEventDeregister(s.callback) // fails on a lost connection, and frees our side nonetheless
	}
	_ = s.conn.UnregisterCloseCallback()
	_, _ = s.conn.Close()
	close(s.closed)
}

// isLost tells whether libvirtd hung up.
func (s *session) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}
