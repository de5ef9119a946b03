package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/platform/safedial"
	"github.com/novacron/novacron/internal/platform/startstop"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Config says how deliveries are made. What is zero has a default.
type Config struct {
	Store  *store.Store
	Unseal func(sealed []byte, webhook string) ([]byte, error)
	Log    *slog.Logger
	// Allow are ranges of addresses that webhooks may reach though they are no public ones.
	Allow      []netip.Prefix
	Version    string // of the program, for receivers
	Registerer prometheus.Registerer

	Interval time.Duration // how often it looks by itself; 2 s
	Timeout  time.Duration // of one attempt; 10 s
	BackOff  time.Duration // before the second attempt, doubled from then on up to MaxBackOff; 10 s
	Attempts int           // then a delivery is dead; 16, over about eight hours
	OffAfter time.Duration // a webhook that has failed for so long is switched off; 3 days
}

const (
	maxBackOff = time.Hour
	workers    = 32                  // attempts at once
	each       = 4                   // of them for one webhook
	batch      = 500                 // events that are given out in one transaction
	retention  = 30 * 24 * time.Hour // of deliveries that have ended
	excerpt    = 1024                // bytes of an answer that are kept
	// countEvery is how often the gauges are set: many may wait.
	countEvery = 10 * time.Second
	// endTime is how long it may take to write what became of an attempt.
	endTime = 10 * time.Second
)

// Dispatcher gives events out and sends them.
type Dispatcher struct {
	cfg      Config
	outside  *http.Client
	inside   *http.Client // for webhooks that may reach the installation's own networks
	loop     *startstop.Loop
	work     sync.WaitGroup
	free     chan struct{}
	attempts *prometheus.CounterVec
	waiting  prometheus.Gauge
	oldest   prometheus.Gauge
	counted  time.Time // when the gauges were set; of the loop alone
}

// New makes a dispatcher.
func New(cfg Config) (*Dispatcher, error) {
	cfg.Interval, cfg.Timeout = cmp.Or(cfg.Interval, 2*time.Second), cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.BackOff, cfg.Attempts, cfg.OffAfter = cmp.Or(cfg.BackOff, 10*time.Second), cmp.Or(cfg.Attempts, 16), cmp.Or(cfg.OffAfter, 72*time.Hour)
	client := func(p safedial.Policy) *http.Client {
		return &http.Client{Transport: p.Transport(cfg.Timeout), Timeout: cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // a redirect is an answer, and no success
	}
	d := &Dispatcher{cfg: cfg, outside: client(safedial.Policy{Allow: cfg.Allow}), inside: client(safedial.Policy{Any: true}), free: make(chan struct{}, workers),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "novacron_vm_webhook_attempts_total", Help: "Attempts to deliver events to webhooks, by what became of them."}, []string{"result"}),
		waiting:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_vm_webhook_deliveries_waiting", Help: "Deliveries to webhooks that are to be made yet."}),
		oldest:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "novacron_vm_webhook_delivery_oldest_seconds", Help: "Age of the oldest of them."}),
	}
	for _, result := range []string{"delivered", "again", "dead"} {
		d.attempts.WithLabelValues(result)
	}
	if err := telemetry.Register(cfg.Registerer, "webhooks", d.collectors()...); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Dispatcher) collectors() []prometheus.Collector {
	return []prometheus.Collector{d.attempts, d.waiting, d.oldest}
}

// Start begins to work, until Stop.
func (d *Dispatcher) Start() { d.loop = startstop.Every(d.cfg.Interval, d.round) }

// Kick makes it look at once. It never waits.
func (d *Dispatcher) Kick() {
	if d.loop != nil {
		d.loop.Kick()
	}
}

// Stop ends it, and breaks off what is being sent: that is sent again.
func (d *Dispatcher) Stop() {
	if d == nil {
		return
	}
	if d.cfg.Registerer != nil {
		for _, c := range d.collectors() {
			d.cfg.Registerer.Unregister(c)
		}
	}
	d.loop.Stop()
	d.work.Wait()
	d.outside.CloseIdleConnections()
	d.inside.CloseIdleConnections()
}

// round gives out what is new and begins what is due. It does not wait for receivers.
func (d *Dispatcher) round(ctx context.Context) {
	fail := func(what string, err error) {
		if ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, what, "error", err)
		}
	}
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = d.cfg.Store.GiveOut(ctx, batch); err != nil {
			fail("events could not be given to webhooks; the next round tries again", err)
			break
		}
	}
	for room := cap(d.free) - len(d.free); room > 0; room = cap(d.free) - len(d.free) {
		list, err := d.cfg.Store.ClaimDeliveries(ctx, d.cfg.Timeout+endTime, each, room)
		if err != nil {
			fail("deliveries could not be claimed; the next round tries again", err)
			return
		}
		for _, a := range list {
			d.free <- struct{}{} // there is room
			d.work.Go(func() {
				defer func() { <-d.free; d.Kick() }() // there may be more for the same webhook
				d.deliver(ctx, a)
			})
		}
		if len(list) == 0 {
			break
		}
	}
	if time.Since(d.counted) < countEvery {
		return
	}
	d.counted = time.Now()
	if waiting, oldest, err := d.cfg.Store.Backlog(ctx); err == nil {
		d.waiting.Set(float64(waiting))
		d.oldest.Set(oldest.Seconds())
	}
}

// Sweep forgets old deliveries.
func (d *Dispatcher) Sweep(ctx context.Context) error {
	const most = 1000
	for {
		n, err := d.cfg.Store.SweepDeliveries(ctx, retention, most)
		if err != nil || n < most {
			return err
		}
	}
}

func (d *Dispatcher) deliver(ctx context.Context, a store.Attempt) {
	began := time.Now()
	o := d.send(ctx, a)
	if ctx.Err() != nil {
		return // the end of this process says nothing of the receiver; the claim runs out
	}
	o.Took, o.OffAfter = time.Since(began), d.cfg.OffAfter
	result := "delivered"
	if o.Status != vm.DeliveryDelivered {
		result = "again"
		if o.Reason == "" {
			o.Reason = fmt.Sprintf("no delivery has succeeded for %v", d.cfg.OffAfter)
		}
		if a.Number >= d.cfg.Attempts {
			o.Status = vm.DeliveryDead
		}
		if o.Status == vm.DeliveryDead {
			result = "dead"
		}
		if o.Wait == 0 {
			o.Wait = d.wait(a.Number)
		}
	}
	d.attempts.WithLabelValues(result).Inc()
	d.cfg.Log.DebugContext(ctx, "webhook delivery tried", "webhook_id", a.WebhookID, "delivery_id", a.ID, "event_type", a.EventType, "attempt", a.Number, "result", result,
		"status", o.ResponseStatus, "error", o.Error)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := d.cfg.Store.EndAttempt(ctx, a, o); err != nil {
		d.cfg.Log.WarnContext(ctx, "the outcome of a delivery could not be written; it is made once more", "delivery_id", a.ID, "error", err)
	}
}

// wait is how long to wait after so many attempts, with jitter, so that what failed together does not come back together.
func (d *Dispatcher) wait(attempts int) time.Duration {
	full := min(d.cfg.BackOff<<min(attempts-1, 20), maxBackOff)
	return full/2 + rand.N(full/2+1)
}

// send makes one attempt.
func (d *Dispatcher) send(ctx context.Context, a store.Attempt) store.Outcome {
	failed := func(why string) store.Outcome {
		return store.Outcome{Status: vm.DeliveryPending, Error: why}
	}
	var secrets [][]byte
	for _, sealed := range a.Sealed {
		secret, err := d.cfg.Unseal(sealed, a.WebhookID.String())
		if err != nil {
			d.cfg.Log.ErrorContext(ctx, "the secret of a webhook cannot be read", "webhook_id", a.WebhookID, "error", err)
			return failed("the secret cannot be read; rotate it")
		}
		secrets = append(secrets, secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(a.Payload))
	if err != nil {
		return failed("the address cannot be used")
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "NovaCron/"+cmp.Or(d.cfg.Version, "dev"))
	req.Header.Set("Webhook-Id", a.EventID.String())
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", Sign(secrets, a.EventID.String(), now, a.Payload))
	client := d.outside
	if a.Internal {
		client = d.inside
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed(reason(err))
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, excerpt)) // what there is of it
	o := store.Outcome{Status: vm.DeliveryPending, ResponseStatus: resp.StatusCode, Response: printable(body)}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		o.Status = vm.DeliveryDelivered
	case resp.StatusCode == http.StatusGone:
		o.Status, o.SwitchOff, o.Reason = vm.DeliveryDead, true, "the receiver answered 410 Gone"
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			o.Wait = min(time.Duration(s)*time.Second, maxBackOff)
		}
	}
	return o
}

// reason says in words why there was no answer, without the address, which may hold a secret.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, safedial.ErrRefused):
		return safedial.ErrRefused.Message
	case errors.As(err, &timeout) && timeout.Timeout():
		return "there was no answer in time"
	default:
		for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
			err = inner
		}
		return err.Error()
	}
}

// printable keeps an answer from being more than text, which PostgreSQL would not take.
func printable(body []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(body), "\uFFFD"))
}
