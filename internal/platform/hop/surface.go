package hop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/pki"
)

// SurfacePath is where a module's listener tells gateways what it serves.
const SurfacePath = "/internal/v1/surface"

// Surface is what it tells.
type Surface struct {
	Module  string          `json:"module"`
	Routes  []httpx.Route   `json:"routes"`
	OpenAPI json.RawMessage `json:"openapi"`
}

// ServeSurface answers on SurfacePath.
func ServeSurface(module string, routes func() []httpx.Route, openapi func() ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc, err := openapi()
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Surface{Module: module, Routes: routes(), OpenAPI: doc}) // the gateway may be gone
	})
}

// Shown is a module that a process shows to gateways.
type Shown interface {
	Name() string
	Routes() []httpx.Route
	Handler() http.Handler
	OpenAPI() ([]byte, error)
}

// Mount makes the handler of a module's own listener: the module and its surface for gateways, and what public holds, by path, for anybody.
func Mount(s Shown, v *Verifier, log *slog.Logger, public map[string]http.Handler) http.Handler {
	surface, module := Handler(v, log, ServeSurface(s.Name(), s.Routes, s.OpenAPI)), Handler(v, log, s.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := public[r.URL.Path]; ok && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			h.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == SurfacePath {
			surface.ServeHTTP(w, r)
			return
		}
		module.ServeHTTP(w, r)
	})
}

// Config is what a process is told of the listener that it shows its module on.
type Config struct {
	Listen   string   // HOST:PORT; empty: there is none
	CertFile string   // PEM; its key signs callers on the gateway's side
	KeyFile  string   // PEM
	CAFile   string   // of the authorities whose certificates gateways show
	Gateways []string // common names of those certificates
}

// Server is a module's own listener.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan error
	end  context.CancelFunc // ends the context of every request, websockets included
}

// uploadBuffer is how much of a body may be on its way that a module has not read yet.
const uploadBuffer = 256 << 10

// Serve listens. Probes and scrapers may connect without a certificate; they reach what Mount was given as public.
func Serve(ctx context.Context, cfg Config, h http.Handler) (*Server, error) {
	pair, err := pki.LoadPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("internal: %w", err)
	}
	authorities, err := pki.LoadAuthorities(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("internal.ca_file: %w", err)
	}
	secure := pki.MutualConfig(pair, authorities, tls.VerifyClientCertIfGiven, "h2", "http/1.1")
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (internal.listen): %w", cfg.Listen, err)
	}
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{addr: l.Addr(), done: make(chan error, 1), end: end, http: &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return base }, TLSConfig: secure, ReadHeaderTimeout: 10 * time.Second,
		// A gateway that speaks HTTP/2 sends all uploads over few connections: one that is not read must not hold up the others.
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerConnection: 16*uploadBuffer - 1, MaxReceiveBufferPerStream: uploadBuffer},
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 128 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}}
	go func() { s.done <- s.http.ServeTLS(l, "", "") }() // ends with Stop
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Stop lets no new request in and waits for those that are being answered, until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	defer s.end()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
