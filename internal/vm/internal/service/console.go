package service

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

// ConsoleTicketTTL is how long a ticket for a console can be used.
const ConsoleTicketTTL = 30 * time.Second

// ConsoleTicket lets its holder connect to one console, once.
type ConsoleTicket struct {
	Ticket    string
	ExpiresAt time.Time
}

// consoleTickets are the tickets that have not been used. They live in this process only: whoever loses one asks for another.
type consoleTickets struct {
	mu     sync.Mutex // guards issued
	issued map[string]consoleGrant
}

type consoleGrant struct {
	ConsoleRequest
	owner   identity.Principal
	expires time.Time
}

// ConsoleRequest says which console is to be opened, and how.
type ConsoleRequest struct {
	VMID     uuid.UUID
	Kind     string // nodeapi.ConsoleSerial or nodeapi.ConsoleVNC
	ReadOnly bool   // what the viewer types does not reach the guest
}

func (t *consoleTickets) issue(req ConsoleRequest, owner identity.Principal, now time.Time) ConsoleTicket {
	ticket := ConsoleTicket{Ticket: rand.Text(), ExpiresAt: now.Add(ConsoleTicketTTL)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.issued == nil {
		t.issued = map[string]consoleGrant{}
	}
	for old, grant := range t.issued {
		if now.After(grant.expires) {
			delete(t.issued, old)
		}
	}
	t.issued[ticket.Ticket] = consoleGrant{ConsoleRequest: req, owner: owner, expires: ticket.ExpiresAt}
	return ticket
}

// redeem takes a ticket out of use and tells what it is for.
func (t *consoleTickets) redeem(ticket string, vmID uuid.UUID, now time.Time) (consoleGrant, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	grant, ok := t.issued[ticket]
	delete(t.issued, ticket)
	return grant, ok && grant.VMID == vmID && !now.After(grant.expires)
}

// takeBack takes tickets out of use whose owner meets the condition.
func (t *consoleTickets) takeBack(condition func(identity.Principal) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ticket, grant := range t.issued {
		if condition(grant.owner) {
			delete(t.issued, ticket)
		}
	}
}

// IssueConsole gives the caller a ticket for a console of a running virtual machine.
func (s *Service) IssueConsole(ctx context.Context, req ConsoleRequest) (ConsoleTicket, error) {
	r, err := s.recordTo(ctx, req.VMID, "vm:console")
	if err != nil {
		return ConsoleTicket{}, err
	}
	if r.State != vm.StateRunning && r.State != vm.StatePaused {
		return ConsoleTicket{}, wrongState(r, "connected to", "running or paused")
	}
	return s.consoles.issue(req, caller(ctx), time.Now()), nil
}

// ConnectConsole trades a ticket for the console itself. Closing it ends the connection; other viewers keep theirs.
func (s *Service) ConnectConsole(ctx context.Context, id uuid.UUID, ticket string) (io.ReadWriteCloser, error) {
	grant, ok := s.consoles.redeem(ticket, id, time.Now())
	if !ok {
		return nil, stream.ErrTicket
	}
	r, err := s.store.GetVM(ctx, id)
	if err != nil {
		return nil, err
	}
	connected := make(chan net.Conn, 1)
	url, revoke := s.streams.Offer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := stream.Accept(w, req)
		if err != nil {
			s.log.WarnContext(ctx, "node's console stream could not be taken over", "vm_id", id, "error", err)
			return
		}
		connected <- conn
	}), true, commandTimeout)
	defer revoke()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if _, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: id}, nodeapi.VerbOpenConsole, nodeapi.ConsoleOpen{StreamURL: url, Kind: grant.Kind}); err != nil {
		return nil, err
	}
	select {
	case conn := <-connected:
		return s.keepConsole(ctx, conn, grant)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the node's console stream: %w", ctx.Err())
	}
}
