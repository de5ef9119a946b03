// Package tracing follows a request through modules, processes and restarts, in OpenTelemetry's terms: a trace is a tree of spans, and the
// W3C header traceparent carries the place in it from one process to the next (https://www.w3.org/TR/trace-context/).
//
// The process's Tracer travels in the context, as the span at work does: whoever answers what comes from elsewhere (a request, a message, an
// operation) enters a span, and whoever does a part of it starts another one below. Without a Tracer no span is made, and what came with
// traceparent is still passed on and logged. Attributes are chosen by hand: identifiers and constants, never what users send, and no secrets.
// tracing/otlp makes a Tracer that sends spans to a collector.
package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Tracer makes the spans of a process. Nil makes none.
type Tracer struct {
	tracer  trace.Tracer
	outside func(asked bool) bool
}

// NewTracer makes a Tracer. outside decides whether the spans of a request from outside are kept, knowing whether its sender asked for it:
// what strangers ask for must not decide alone how much is recorded.
func NewTracer(provider trace.TracerProvider, outside func(asked bool) bool) *Tracer {
	return &Tracer{tracer: provider.Tracer("github.com/novacron/novacron"), outside: outside}
}

type tracerKey struct{}

// With puts the process's tracer into ctx.
func With(ctx context.Context, t *Tracer) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tracerKey{}, t)
}

// From gives the tracer of ctx; nil where there is none.
func From(ctx context.Context) *Tracer {
	t, _ := ctx.Value(tracerKey{}).(*Tracer)
	return t
}

// Attr is one attribute of a span.
type Attr = attribute.KeyValue

// String makes an attribute.
func String(key, value string) Attr { return attribute.String(key, value) }

// Int makes an attribute.
func Int(key string, value int) Attr { return attribute.Int(key, value) }

// Kind tells on which side of a call a span is.
type Kind = trace.SpanKind

// The kinds.
const (
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Internal = trace.SpanKindInternal
)

// Span is a piece of work. The zero Span is one that nobody records.
type Span struct{ span trace.Span }

// Enter begins a span for what came from elsewhere: below what FromClient, FromPeer or FromStored put into ctx, or a trace of its own.
func Enter(ctx context.Context, kind Kind, name string, attrs ...Attr) (context.Context, Span) {
	t := From(ctx)
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	return ctx, Span{span}
}

// Start begins a span below that of ctx; where that is not recorded, there is nothing to begin.
func Start(ctx context.Context, kind Kind, name string, attrs ...Attr) (context.Context, Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, Span{}
	}
	return Enter(ctx, kind, name, attrs...)
}

// Recorded tells whether ctx belongs to a span that is recorded, so that a caller can save the work of describing one.
func Recorded(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Current gives the span of ctx.
func Current(ctx context.Context) Span { return Span{trace.SpanFromContext(ctx)} }

// Recorded tells whether anybody will see the span.
func (s Span) Recorded() bool { return s.span != nil && s.span.IsRecording() }

// Name gives the span another name, once more is known.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Set adds attributes.
func (s Span) Set(attrs ...Attr) {
	if s.span != nil {
		s.span.SetAttributes(attrs...)
	}
}

// Fail marks the span as failed. code is a stable one, never a text that may hold what users sent.
func (s Span) Fail(code string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String("error.type", code))
		s.span.SetStatus(codes.Error, code)
	}
}

// End ends the span. An error is told by its code alone.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil && s.span.IsRecording() {
		s.Fail(errs.From(err).Code)
	}
	s.span.End()
}

// ID gives the id of the trace that ctx belongs to, or "".
func ID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// The names of W3C's headers: the place in a trace, and what tracing systems add to it.
const (
	HeaderParent = "traceparent"
	HeaderState  = "tracestate"
)

// Inject hands what the next process has to know of the trace to set, by the names of W3C's headers.
func Inject(ctx context.Context, set func(name, value string)) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, carrier{set: set})
	}
}

// FromPeer puts the place in a trace that another process of ours gave into ctx. What makes no sense is overlooked.
func FromPeer(ctx context.Context, get func(name string) string) context.Context {
	if get(HeaderParent) == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, carrier{get: get})
}

// FromClient puts the place in a trace that a client gave into ctx. Whether the trace is recorded is for the tracer to decide.
func FromClient(ctx context.Context, get func(name string) string) context.Context {
	ctx = FromPeer(ctx, get)
	sc := trace.SpanContextFromContext(ctx)
	t := From(ctx)
	if t == nil || !sc.IsRemote() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc.WithTraceFlags(sc.TraceFlags().WithSampled(t.outside(sc.IsSampled()))))
}

// Parent gives the place in the trace as one text, to be kept beside what goes on later; "" where ctx belongs to no trace.
func Parent(ctx context.Context) string {
	var parent string
	Inject(ctx, func(name, value string) {
		if name == HeaderParent {
			parent = value
		}
	})
	return parent
}

// FromStored puts what Parent gave into ctx.
func FromStored(ctx context.Context, parent string) context.Context {
	return FromPeer(ctx, func(name string) string {
		if name == HeaderParent {
			return parent
		}
		return ""
	})
}

// carrier is one direction of a propagation.TextMapCarrier.
type carrier struct {
	get func(string) string
	set func(string, string)
}

func (c carrier) Get(key string) string { return c.get(strings.ToLower(key)) }
func (c carrier) Set(key, value string) { c.set(key, value) }
func (carrier) Keys() []string          { return nil }
