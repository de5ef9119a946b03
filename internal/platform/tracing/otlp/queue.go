package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/novacron/novacron/internal/platform/telemetry"
)

// queue holds spans until they are sent. Unlike the SDK's own batching it counts what it drops.
type queue struct {
	exporter trace.SpanExporter
	log      *slog.Logger
	spans    chan trace.ReadOnlySpan
	flushes  chan flush
	results  *prometheus.CounterVec

	stop     chan struct{} // closed by Shutdown
	stopOnce sync.Once
	stopped  chan struct{}      // closed when nothing is sent any more
	base     context.Context    // of every sending
	giveUp   context.CancelFunc // ends base
	failing  bool               // the last sending failed; of the sending goroutine
}

// flush asks for everything that waits to be sent, and to be told of it.
type flush chan struct{}

// What becomes of a span.
const (
	sent    = "sent"
	failed  = "failed"  // the collector did not take it
	dropped = "dropped" // the queue was full
)

func newQueue(exporter trace.SpanExporter, size int, log *slog.Logger, reg prometheus.Registerer) (*queue, error) {
	q := &queue{exporter: exporter, log: log, spans: make(chan trace.ReadOnlySpan, size), flushes: make(chan flush), stop: make(chan struct{}), stopped: make(chan struct{}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_trace_spans_total",
			Help: "Spans of traces by what became of them: sent, failed (the collector did not take them) or dropped (too many waited)."}, []string{"result"})}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "novacron_trace_spans_waiting", Help: "Spans of traces that wait to be sent."},
		func() float64 { return float64(len(q.spans)) })
	for _, result := range []string{sent, failed, dropped} {
		q.results.WithLabelValues(result) // so that an alert sees the zero before the first one
	}
	if err := telemetry.Register(reg, "traces", q.results, waiting); err != nil {
		return nil, err
	}
	q.base, q.giveUp = context.WithCancel(context.Background())
	go q.run() // ends with Shutdown
	return q, nil
}

// OnStart implements trace.SpanProcessor.
func (q *queue) OnStart(context.Context, trace.ReadWriteSpan) {}

// OnEnd implements trace.SpanProcessor. It never waits.
func (q *queue) OnEnd(s trace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	select {
	case q.spans <- s:
	default:
		q.results.WithLabelValues(dropped).Inc()
	}
}

// run sends what waits: as soon as there is enough, and else once a second.
func (q *queue) run() {
	defer close(q.stopped)
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	batch := make([]trace.ReadOnlySpan, 0, batchSize)
	add := func(s trace.ReadOnlySpan) {
		if batch = append(batch, s); len(batch) == batchSize {
			batch = q.send(batch)
		}
	}
	rest := func() {
		for range len(q.spans) {
			add(<-q.spans)
		}
		batch = q.send(batch)
	}
	for {
		select {
		case s := <-q.spans:
			add(s)
		case <-tick.C:
			batch = q.send(batch)
		case done := <-q.flushes:
			rest()
			close(done)
		case <-q.stop:
			rest()
			return
		}
	}
}

// send sends a batch and gives the room for the next one.
func (q *queue) send(batch []trace.ReadOnlySpan) []trace.ReadOnlySpan {
	if len(batch) == 0 {
		return batch
	}
	ctx, cancel := context.WithTimeout(q.base, sendTimeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	switch {
	case err != nil && !q.failing:
		q.log.WarnContext(ctx, "traces cannot be sent; they are dropped until the collector takes them", "spans", len(batch), "error", err)
	case err == nil && q.failing:
		q.log.InfoContext(ctx, "traces are sent again")
	}
	result := sent
	if q.failing = err != nil; q.failing {
		result = failed
	}
	q.results.WithLabelValues(result).Add(float64(len(batch)))
	clear(batch) // what has been sent can go
	return batch[:0]
}

// ForceFlush implements trace.SpanProcessor.
func (q *queue) ForceFlush(ctx context.Context) error {
	done := make(flush)
	select {
	case q.flushes <- done:
	case <-q.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send traces: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send traces: %w", ctx.Err())
	}
}

// Shutdown implements trace.SpanProcessor. What cannot be sent until ctx ends is lost.
func (q *queue) Shutdown(ctx context.Context) error {
	q.stopOnce.Do(func() { close(q.stop) })
	defer q.giveUp()
	select {
	case <-q.stopped:
	case <-ctx.Done():
		q.giveUp()
		<-q.stopped
	}
	return q.exporter.Shutdown(ctx)
}
