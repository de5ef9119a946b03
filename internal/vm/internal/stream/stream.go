// Package stream carries bulk bytes between the controller and its nodes, which never travel on the bus. The controller issues a
// ticket, a command tells a node of it, and the node dials out to /internal/v1/streams/{ticket}. On one host that is a unix socket that
// only NovaCron's own user can open.
package stream

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// Path is where streams are served.
const Path = "/internal/v1/streams/"

// ErrTicket says that a stream's ticket is not, or no longer, good.
var ErrTicket = errs.New(errs.NotFound, "stream.unknown_ticket", "the stream's ticket is not good, or no longer")

// Server issues tickets and serves them. It is safe for concurrent use.
type Server struct {
	socket string
	log    *slog.Logger
	http   *http.Server

	mu      sync.Mutex // guards tickets
	tickets map[string]ticket
}

type ticket struct {
	handler http.Handler
	expires time.Time
	once    bool
}

// New makes a server that will listen on the socket.
func New(socket string, log *slog.Logger) *Server {
	s := &Server{socket: socket, log: log, tickets: map[string]ticket{}}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	return s
}

// Start listens. A socket that an earlier process left behind is replaced.
func (s *Server) Start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.socket), 0o700); err != nil {
		return fmt.Errorf("make folder of stream socket: %w", err)
	}
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old stream socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", s.socket)
	if err != nil {
		return fmt.Errorf("listen for streams: %w", err)
	}
	if err := os.Chmod(s.socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect stream socket: %w", err), l.Close())
	}
	go func() { // ends with Stop
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("stream server ended", "error", err)
		}
	}()
	return nil
}

// Stop closes the listener and every stream.
func (s *Server) Stop() error { return s.http.Close() }

// Offer issues a ticket for a stream that h serves, and gives the address that a node dials. A ticket that is for one use only is
// gone after it; every ticket is gone after ttl, or when revoke is called.
func (s *Server) Offer(h http.Handler, once bool, ttl time.Duration) (url string, revoke func()) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // crypto/rand never fails
	id := base64.RawURLEncoding.EncodeToString(raw[:])
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, t := range s.tickets {
		if now.After(t.expires) {
			delete(s.tickets, old)
		}
	}
	s.tickets[id] = ticket{handler: h, expires: now.Add(ttl), once: once}
	return "unix:" + s.socket + ":" + Path + id, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tickets, id)
	}
}

func (s *Server) redeem(id string) (http.Handler, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tickets[id]
	if !ok || time.Now().After(t.expires) {
		return nil, false
	}
	if t.once {
		delete(s.tickets, id)
	}
	return t.handler, true
}

// ServeHTTP serves the stream whose ticket the path ends with.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Path) <= len(Path) || r.URL.Path[:len(Path)] != Path {
		httpx.WriteError(w, r, ErrTicket)
		return
	}
	h, ok := s.redeem(r.URL.Path[len(Path):])
	if !ok {
		httpx.WriteError(w, r, ErrTicket)
		return
	}
	h.ServeHTTP(w, r)
}
