// Package report tells the controller what changed on a node: in order, each change of a state once, and again and again until it
// is acknowledged.
//
// Only the node role uses it.
package report

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Config says who reports and how.
type Config struct {
	NodeID uuid.UUID
	Epoch  int64
	// Send makes one attempt; its context is bounded.
	Send func(context.Context, nodeapi.Report) (nodeapi.Ack, error)
	// Acked is told of every acknowledgement, before the next report is sent.
	Acked func(nodeapi.Report, nodeapi.Ack)
	// Repeated is told of every attempt that failed; may be nil.
	Repeated func()
	// FirstWait and LastWait bound the pause before another attempt. Zero means 200 ms and 5 s.
	FirstWait, LastWait time.Duration
	Log                 *slog.Logger
}

// Reporter holds what is not yet acknowledged. Make it with New and run it with Run.
type Reporter struct {
	cfg Config

	mu    sync.Mutex // guards what follows
	hello *nodeapi.Report
	queue []nodeapi.Status // not yet in a report
	seq   int64
	ready bool // Hello was called; statuses told before it would come before it

	wake chan struct{}
}

const (
	maxStatuses    = 256             // in one report
	attemptTimeout = 5 * time.Second // of one attempt to send
)

// New makes a reporter.
func New(cfg Config) *Reporter {
	if cfg.FirstWait == 0 {
		cfg.FirstWait = 200 * time.Millisecond
	}
	if cfg.LastWait == 0 {
		cfg.LastWait = 5 * time.Second
	}
	return &Reporter{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Hello opens the epoch with every status. Only its first call counts.
func (r *Reporter) Hello(statuses []nodeapi.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		return
	}
	r.ready = true
	r.hello = &nodeapi.Report{Hello: true, Statuses: statuses}
	r.kick()
}

// Tell queues a status. One that is queued already for the same virtual machine in the same state is replaced: only what is beside
// the state, as its addresses, can have changed.
func (r *Reporter) Tell(s nodeapi.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.queue) - 1; i >= 0; i-- {
		if r.queue[i].VMID != s.VMID {
			continue
		}
		if r.queue[i].Observed == s.Observed {
			r.queue[i] = s
			return
		}
		break
	}
	r.queue = append(r.queue, s)
	r.kick()
}

func (r *Reporter) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next takes the next report, if there is one.
func (r *Reporter) next() (nodeapi.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var report nodeapi.Report
	switch {
	case !r.ready:
		return report, false
	case r.hello != nil:
		report, r.hello = *r.hello, nil
	case len(r.queue) > 0:
		n := min(len(r.queue), maxStatuses)
		report.Statuses, r.queue = r.queue[:n:n], r.queue[n:]
	default:
		return report, false
	}
	r.seq++
	report.ID, report.NodeID, report.Epoch, report.Seq = uuid.Must(uuid.NewV7()), r.cfg.NodeID, r.cfg.Epoch, r.seq
	return report, true
}

// Run sends reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	for {
		for {
			report, ok := r.next()
			if !ok {
				break
			}
			ack, ok := r.send(ctx, report)
			if !ok {
				return
			}
			r.cfg.Acked(report, ack)
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// send repeats one report until it is acknowledged. It answers false when ctx ends first.
func (r *Reporter) send(ctx context.Context, report nodeapi.Report) (nodeapi.Ack, bool) {
	wait := r.cfg.FirstWait
	for attempt := 1; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, attemptTimeout)
		ack, err := r.cfg.Send(attemptCtx, report)
		cancel()
		if err == nil {
			return ack, true
		}
		if ctx.Err() != nil {
			return nodeapi.Ack{}, false
		}
		if r.cfg.Repeated != nil {
			r.cfg.Repeated()
		}
		level := slog.LevelDebug // the controller may come up a moment later
		if attempt%10 == 0 {
			level = slog.LevelWarn
		}
		r.cfg.Log.Log(ctx, level, "a report was not acknowledged and is repeated", "seq", report.Seq, "attempt", attempt, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nodeapi.Ack{}, false
		}
		wait = min(wait*2, r.cfg.LastWait)
	}
}
