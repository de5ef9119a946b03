// Package otlp sends spans to a collector by OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/).
//
// The collector never holds anything up: spans wait in a queue of fixed size, are sent by one goroutine, and are dropped and counted where
// the queue is full or the collector does not take them.
package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// Config says where spans go, and how many of them.
type Config struct {
	Endpoint          string  // https://HOST:PORT, or http://HOST:PORT for a collector on this host
	CAFile            string  // PEM; empty: the authorities of the system
	CertFile, KeyFile string  // PEM; what is shown to a collector that asks for it
	SampleRatio       float64 // of the traces that begin here, from 0 to 1
	Version           string  // of the program
	Instance          string  // what tells this process from others of the installation
}

// Validate lists every mistake.
func (c Config) Validate() []error {
	var failed []error
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // NaN is neither
		failed = append(failed, errors.New("telemetry.trace_sample_ratio: must be from 0 to 1"))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		failed = append(failed, errors.New("telemetry.otlp_cert_file, otlp_key_file: must be given together"))
	}
	if c.Endpoint == "" {
		return failed
	}
	u, err := url.Parse(c.Endpoint)
	_, _, portErr := net.SplitHostPort(hostOf(u))
	switch {
	case err != nil || portErr != nil || (u.Scheme != "https" && u.Scheme != "http") || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil:
		failed = append(failed, errors.New("telemetry.otlp_endpoint: is not https://HOST:PORT"))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		failed = append(failed, errors.New("telemetry.otlp_endpoint: http:// is for a collector on this host (localhost, 127.0.0.1); write https://"))
	case u.Scheme == "http" && (c.CAFile != "" || c.CertFile != ""):
		failed = append(failed, errors.New("telemetry.otlp_ca_file, otlp_cert_file: are of no use with http://"))
	}
	return failed
}

func hostOf(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Host
}

// loopback tells whether what goes to host stays on this one.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// The sizes and times of the way to the collector.
const (
	queueSize    = 8192 // spans; some 16 MiB where all are as large as they get
	batchSize    = 512
	batchEvery   = time.Second
	sendTimeout  = 10 * time.Second
	maxAttrValue = 4 << 10
	// askedPerSecond is how many traces clients can have recorded beyond the ratio, by the flag in their traceparent.
	askedPerSecond = 10
)

// Sender is the way to the collector.
type Sender struct {
	tracer   *tracing.Tracer
	provider *trace.TracerProvider
	queue    *queue
}

// New makes a Sender. Nothing is sent before there is a span; a collector that is away is no error. reg may be nil.
func New(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Sender, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("telemetry.otlp_endpoint: %w", err)
	}
	security := otlptracegrpc.WithInsecure()
	if u.Scheme == "https" {
		secure, err := clientTLS(cfg)
		if err != nil {
			return nil, err
		}
		security = otlptracegrpc.WithTLSCredentials(credentials.NewTLS(secure))
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(u.Host), security, otlptracegrpc.WithTimeout(sendTimeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false})) // what comes meanwhile is worth more than what was
	if err != nil {
		return nil, fmt.Errorf("prepare the way to %s (telemetry.otlp_endpoint): %w", u.Host, err)
	}
	q, err := newQueue(exporter, queueSize, log, reg)
	if err != nil {
		return nil, errors.Join(err, exporter.Shutdown(ctx))
	}
	limits := trace.NewSpanLimits()
	limits.AttributeValueLengthLimit = maxAttrValue
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(q), trace.WithRawSpanLimits(limits),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(cfg.SampleRatio))),
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", "novacron"), attribute.String("service.version", cfg.Version),
			attribute.String("service.instance.id", cfg.Instance))))
	asked := &bucket{now: time.Now}
	outside := func(wanted bool) bool {
		return rand.Float64() < cfg.SampleRatio || wanted && asked.take() //nolint:gosec // nothing secret hangs on it
	}
	return &Sender{tracer: tracing.NewTracer(provider, outside), provider: provider, queue: q}, nil
}

func clientTLS(cfg Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pool, err := pki.Pool(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("telemetry.otlp_ca_file: %w", err)
		}
		c.RootCAs = pool
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("telemetry.otlp_cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// Tracer makes the spans that are sent.
func (s *Sender) Tracer() *tracing.Tracer { return s.tracer }

// Flush sends what waits, at most until ctx ends.
func (s *Sender) Flush(ctx context.Context) error { return s.provider.ForceFlush(ctx) }

// Stop sends what waits, at most until ctx ends, and makes no more spans.
func (s *Sender) Stop(ctx context.Context) error { return s.provider.Shutdown(ctx) }

// bucket lets askedPerSecond through, and saves up none.
type bucket struct {
	now func() time.Time

	mu     sync.Mutex // guards what follows
	second int64
	taken  int
}

func (b *bucket) take() bool {
	second := b.now().Unix()
	b.mu.Lock()
	defer b.mu.Unlock()
	if second != b.second {
		b.second, b.taken = second, 0
	}
	b.taken++
	return b.taken <= askedPerSecond
}
