package libvirt

import (
	"sync"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// rawEvent is an event as libvirt's event loop gave it. It is worked out on the delivering goroutine, because a call to libvirtd
// from within the event loop would wait for itself.
type rawEvent struct {
	session      *session
	driver       *Driver
	connected    bool
	disconnected bool
	look         bool // no event of libvirt's: the state is to be asked for
	vm           uuid.UUID
	event        libvirt.DomainEventType
	detail       int
	boot         string
	at           time.Time
}

// queue holds events between libvirt's event loop, which must never wait, and their delivery. It is unbounded: the number of
// domains of a host bounds what can pile up, and a lost change would be worse.
type queue struct {
	mu     sync.Mutex // guards events
	events []rawEvent
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(e rawEvent) {
	q.mu.Lock()
	q.events = append(q.events, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take() []rawEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

// deliver hands events to on, one at a time and in order, until stop is closed.
func (q *queue) deliver(on func(driver.Event), stop <-chan struct{}) {
	for {
		for _, raw := range q.take() {
			select {
			case <-stop:
				return
			default:
			}
			if e, ok := raw.resolve(); ok {
				on(e)
			}
		}
		select {
		case <-q.wake:
		case <-stop:
			return
		}
	}
}
