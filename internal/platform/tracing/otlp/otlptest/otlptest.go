// Package otlptest is a collector for tests: it takes traces by OTLP over gRPC on a real connection and keeps them.
package otlptest

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Span is a span as it arrived.
type Span struct {
	Trace, ID, Parent string // in hexadecimal
	Name              string
	Failed            bool
	Attrs             map[string]string
}

// Receiver is the collector.
type Receiver struct {
	collector.UnimplementedTraceServiceServer
	Address string

	mu       sync.Mutex // guards what follows
	spans    []Span
	resource map[string]string
}

// Start listens on a free port of this host until the test ends. With a nil config there is no TLS.
func Start(t testing.TB, secure *tls.Config) *Receiver {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if secure != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(secure)))
	}
	r, server, done := &Receiver{Address: l.Addr().String()}, grpc.NewServer(opts...), make(chan error, 1)
	collector.RegisterTraceServiceServer(server, r)
	go func() { done <- server.Serve(l) }() // ends with the test
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return r
}

// Export implements the service.
func (r *Receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range in.GetResourceSpans() {
		r.resource = texts(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, Span{Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Name: s.GetName(), Failed: s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR, Attrs: texts(s.GetAttributes())})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func texts(list []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[kv.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			m[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return m
}

// Spans gives what has arrived of a trace, or of all with "".
func (r *Receiver) Spans(trace string) []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Span
	for _, s := range r.spans {
		if trace == "" || s.Trace == trace {
			list = append(list, s)
		}
	}
	return list
}

// Resource tells what the sender of the last spans said of itself.
func (r *Receiver) Resource() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resource
}

// Tree writes a trace down, a span a line, those below another one indented, in the order in which they ended.
func Tree(spans []Span) string {
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	var b strings.Builder
	var below func(parent string, depth int)
	below = func(parent string, depth int) {
		for _, s := range spans {
			if s.Parent == parent || parent == "" && !known[s.Parent] {
				b.WriteString(strings.Repeat("  ", depth) + s.Name + "\n")
				below(s.ID, depth+1)
			}
		}
	}
	below("", 0)
	return b.String()
}
