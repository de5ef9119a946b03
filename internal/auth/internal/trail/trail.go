// Package trail keeps the audit trail: it takes the records of all modules, chains them, signs the head of the chain, removes what is old, and lets
// the trail be searched, exported and verified.
//
// Records come from the outboxes of the modules. A message on audit.records says that there is something; what it is, is asked for on the replay
// subject of that module, from where the last answer ended, so that nothing is lost and nothing comes twice, whoever restarts. Only authmodule
// builds a Trail.
package trail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/auth/internal/chain"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/startstop"
)

// Config is what can be tuned.
type Config struct {
	Dir       string        // of the signing key and the newest signed head
	Retention time.Duration // how long records are kept; 0: for ever
}

// Deps are what the trail stands on.
type Deps struct {
	Store      *store.Store
	Bus        bus.Bus
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	Now        func() time.Time
	Sources    []string // schemas whose outboxes have records; others are found when they say something
}

const (
	pollEvery       = 3 * time.Second // also without a message
	checkpointEvery = 10 * time.Second
	pruneEvery      = time.Hour
	pullLimit       = 500
	workTimeout     = time.Minute
)

// Trail is the audit trail.
type Trail struct {
	cfg     Config
	deps    Deps
	metrics *metrics

	mu     sync.Mutex      // guards what follows
	dirty  map[string]bool // sources that have said something
	behind map[string]time.Time
	wake   chan struct{}
	signer *chain.Signer
	loop   *startstop.Loop
	sub    bus.Subscription

	// Of the one goroutine that Start starts.
	nextCheckpoint, nextPrune time.Time
	broken                    bool
	logged                    time.Time
	failing                   map[string]bool
}

// New makes a Trail.
func New(cfg Config, deps Deps) (*Trail, error) {
	t := &Trail{cfg: cfg, deps: deps, dirty: map[string]bool{}, behind: map[string]time.Time{}, wake: make(chan struct{}, 1), failing: map[string]bool{}}
	var err error
	t.metrics, err = newMetrics(deps.Registerer, t.lag)
	return t, err
}

// Start begins to take records. It is idempotent, and may follow Stop.
func (t *Trail) Start(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loop != nil {
		return nil
	}
	signer, err := chain.OpenSigner(t.cfg.Dir)
	if err != nil {
		return err
	}
	sub, err := t.deps.Bus.Subscribe(bus.SubjectAuditRecords, bus.SubscribeOptions{}, func(_ context.Context, m bus.Message) {
		t.nudge(m.Header[outbox.HeaderSource])
	})
	if err != nil {
		return fmt.Errorf("listen to %s: %w", bus.SubjectAuditRecords, err)
	}
	t.signer, t.sub, t.loop = signer, sub, &startstop.Loop{}
	for _, source := range t.deps.Sources {
		t.dirty[source] = true
	}
	t.nextPrune = t.deps.Now()
	t.loop.Start(context.Background(), func(ctx context.Context) error { // ends with Stop
		t.run(ctx)
		return nil
	})
	return nil
}

// Stop ends what Start began; what waits is taken after the next start.
func (t *Trail) Stop() {
	t.mu.Lock()
	loop, sub := t.loop, t.sub
	t.loop, t.sub = nil, nil
	t.mu.Unlock()
	if loop == nil {
		return
	}
	sub.Close()
	loop.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	t.checkpoint(ctx)
}

// nudge notes that a source has something.
func (t *Trail) nudge(source string) {
	if source == "" {
		return
	}
	t.mu.Lock()
	t.dirty[source] = true
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Trail) run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	t.all(ctx)
	for {
		t.mu.Lock()
		sources := t.dirty
		t.dirty = map[string]bool{}
		t.mu.Unlock()
		for source := range sources {
			t.pull(ctx, source)
		}
		now := t.deps.Now()
		if now.After(t.nextCheckpoint) {
			t.nextCheckpoint = now.Add(checkpointEvery)
			t.checkpoint(ctx)
		}
		if t.cfg.Retention > 0 && now.After(t.nextPrune) {
			t.nextPrune = now.Add(pruneEvery)
			t.prune(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-tick.C:
			t.all(ctx)
		}
	}
}

// all notes every source that is known, in case that a message was lost.
func (t *Trail) all(ctx context.Context) {
	known, err := t.deps.Store.AuditSources(ctx)
	if err != nil && ctx.Err() == nil {
		t.deps.Log.WarnContext(ctx, "the sources of audit records could not be read; it will be tried again", "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for source := range known {
		t.dirty[source] = true
	}
	for _, source := range t.deps.Sources {
		t.dirty[source] = true
	}
}

// pull takes what a source has. What goes wrong is tried again.
func (t *Trail) pull(ctx context.Context, source string) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	err := t.take(ctx, source)
	t.mu.Lock()
	_, behind := t.behind[source]
	switch {
	case err == nil:
		delete(t.behind, source)
	case !behind:
		t.behind[source] = t.deps.Now()
	}
	t.mu.Unlock()
	if ctx.Err() != nil && err != nil {
		return
	}
	if err != nil && !t.failing[source] && !errors.Is(err, bus.ErrNoResponders) { // a module that does not run has nothing to say
		t.deps.Log.WarnContext(ctx, "audit records could not be taken; it will be tried again", "source", source, "error", err)
		t.failing[source] = true
	}
	if err == nil && t.failing[source] {
		t.deps.Log.InfoContext(ctx, "audit records are taken again", "source", source)
		delete(t.failing, source)
	}
}

func (t *Trail) take(ctx context.Context, source string) error {
	cursors, err := t.deps.Store.AuditSources(ctx)
	if err != nil {
		return err
	}
	cursor := cursors[source]
	for {
		reply, err := outbox.Replay(ctx, t.deps.Bus, outbox.ReplaySubjectOf(bus.SubjectAuditRecords, source), outbox.ReplayRequest{AfterSeq: cursor, Limit: pullLimit})
		if err != nil {
			return err
		}
		if len(reply.Events) == 0 {
			if reply.LastSeq > 0 && reply.LastSeq < cursor { // its database was made anew, or restored from a copy
				t.deps.Log.WarnContext(ctx, "a source of audit records begins anew", "source", source, "read", cursor, "last", reply.LastSeq)
				return t.deps.Store.RewindAudit(ctx, source)
			}
			return nil
		}
		records := make([]store.SourceRecord, 0, len(reply.Events))
		for _, e := range reply.Events {
			r := store.SourceRecord{Seq: e.Seq}
			if err := json.Unmarshal(e.Payload, &r.Audit); err != nil || r.ID != e.ID {
				t.metrics.unreadable.Inc()
				t.deps.Log.ErrorContext(ctx, "an audit record cannot be read and is left out", "source", source, "event_id", e.ID, "error", err)
				continue
			}
			r.Audit = audit.Clean(r.Audit)
			records = append(records, r)
		}
		last := reply.Events[len(reply.Events)-1].Seq
		appended, err := t.deps.Store.AppendAudit(ctx, source, records, last)
		if err != nil {
			return err
		}
		if n := len(appended); n > 0 {
			t.metrics.chained.WithLabelValues(source).Add(float64(n))
			t.metrics.head.Set(float64(appended[n-1].Seq))
			t.metrics.delay.Observe(t.deps.Now().Sub(appended[0].Time).Seconds())
		}
		if cursor = last; cursor >= reply.LastSeq {
			return nil
		}
	}
}

// lag tells for how long the source that is furthest behind could not be read, in seconds.
func (t *Trail) lag() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var most time.Duration
	for source, since := range t.behind {
		if slices.Contains(t.deps.Sources, source) || len(t.deps.Sources) == 0 {
			most = max(most, t.deps.Now().Sub(since))
		}
	}
	return most.Seconds()
}

// prune removes what is older than the retention.
func (t *Trail) prune(ctx context.Context) {
	total := int64(0)
	for ctx.Err() == nil {
		now := t.deps.Now()
		removed, err := t.deps.Store.PruneAudit(ctx, now.Add(-t.cfg.Retention), func(h chain.Head) chain.Checkpoint {
			return t.signer.Sign(chain.KindPrune, h, now)
		})
		if err != nil {
			if ctx.Err() == nil {
				t.deps.Log.WarnContext(ctx, "old audit records could not be removed; it will be tried again", "error", err)
			}
			return
		}
		if total += removed; removed == 0 {
			break
		}
	}
	if total > 0 {
		t.deps.Log.InfoContext(ctx, "removed audit records that are older than auth.audit_retention", "records", total)
	}
}
