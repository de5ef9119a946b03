package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/node/guestagent"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Bounds of what is asked of guests at once. A request may last for minutes, but none of the questions that it is made of does.
const (
	guestsAtOnce          = 128
	guestsAtOnceOfATenant = 32
	guestsAtOnceOfAVM     = 8
	// questionsOfATenant is how many questions of a tenant may be open: fewer than the driver takes at once, so that one whose agents all
	// hang leaves room for others.
	questionsOfATenant = 2
	// maxSilences bounds how often the time is doubled for which an agent is left alone that was silent again and again.
	maxSilences = 2
	// silenceKept is for how long it is known how often an agent was silent.
	silenceKept = time.Minute
	fileLimit   = time.Hour
)

// guests keeps the turns of guest agents: one question at a time for each, and no more requests than there is room for. It has nothing to
// do with the turns of commands: an agent that hangs holds up no command, and no command an agent.
type guests struct {
	mu      sync.Mutex // guards what follows
	all     int
	tenants map[uuid.UUID]*guestOwner
	vms     map[uuid.UUID]*guest
}

// guestOwner is a tenant with open requests.
type guestOwner struct {
	requests  int
	questions chan struct{} // holds an element for each open question
}

// guest is a guest that somebody asks now, or that was silent a moment ago.
type guest struct {
	requests int
	owner    *guestOwner
	turn     chan struct{} // holds one element while a question is open
	silent   time.Time     // until when it is left alone
	silences int           // that it was silent, one after the other
}

func newGuests() *guests {
	return &guests{tenants: map[uuid.UUID]*guestOwner{}, vms: map[uuid.UUID]*guest{}}
}

// enter lets a request in.
func (g *guests) enter(id, tenant uuid.UUID, now time.Time) (*guest, func(), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other, one := range g.vms {
		if one.requests == 0 && now.After(one.silent.Add(silenceKept)) {
			delete(g.vms, other)
		}
	}
	one, owner := g.vms[id], g.tenants[tenant]
	if owner == nil {
		owner = &guestOwner{questions: make(chan struct{}, questionsOfATenant)}
	}
	switch {
	case one != nil && one.requests >= guestsAtOnceOfAVM:
		return nil, nil, vm.ErrAgentBusy.WithMessage("%d requests of the guest agent are open already", one.requests)
	case owner.requests >= guestsAtOnceOfATenant:
		return nil, nil, vm.ErrAgentBusy.WithMessage("%d requests of guest agents of the tenant are open already", owner.requests)
	case g.all >= guestsAtOnce:
		return nil, nil, vm.ErrAgentBusy.WithMessage("as many requests of guest agents are open as the node takes")
	case one == nil:
		one = &guest{turn: make(chan struct{}, 1)}
		g.vms[id] = one
	}
	g.tenants[tenant] = owner
	g.all++
	owner.requests++
	one.requests++
	if one.requests == 1 {
		one.owner = owner
	}
	return one, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.all--
		if owner.requests--; owner.requests == 0 {
			delete(g.tenants, tenant)
		}
		one.requests--
	}, nil
}

func (g *guests) isSilent(one *guest, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Before(one.silent)
}

// answered notes whether an agent was silent, and leaves it alone for a while if it was.
func (g *guests) answered(one *guest, silent bool, now time.Time, patience time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !silent {
		one.silences = 0
		return
	}
	one.silent = now.Add(patience << min(one.silences, maxSilences))
	one.silences++
}

// withGuest hands f the agent of a guest.
func withGuest[T any](ctx context.Context, n *Node, c nodeapi.Command, whose nodeapi.Guest, f func(*guestagent.Agent) (T, error)) (T, error) {
	var none T
	if c.VMID == uuid.Nil {
		return none, nodeapi.ErrInvalidCommand.WithMessage("%s names no virtual machine", c.Verb)
	}
	one, leave, err := n.guests.enter(c.VMID, whose.TenantID, time.Now())
	if err != nil {
		return none, err
	}
	defer leave()
	return f(guestagent.New(func(ctx context.Context, command []byte, patience time.Duration) ([]byte, error) {
		answer, err := n.askGuest(ctx, c.VMID, one, command, patience)
		n.metrics.asked(err)
		return answer, err
	}, n.cfg.AgentPatience))
}

func (n *Node) askGuest(ctx context.Context, id uuid.UUID, one *guest, command []byte, patience time.Duration) ([]byte, error) {
	turn := time.NewTimer(2 * n.cfg.AgentPatience)
	defer turn.Stop()
	for _, place := range []chan struct{}{one.turn, one.owner.questions} {
		select {
		case place <- struct{}{}:
			defer func() { <-place }()
		case <-turn.C:
			return nil, driver.ErrAgentBusy
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if n.guests.isSilent(one, time.Now()) { // whoever asks it again and again holds nobody up
			return nil, driver.ErrAgentSilent
		}
	}
	answer, err := n.cfg.Driver.AskAgent(ctx, id, command, patience)
	n.guests.answered(one, errors.Is(err, driver.ErrAgentSilent), time.Now(), n.cfg.AgentPatience)
	return answer, err
}

func (n *Node) guestInfo(ctx context.Context, c nodeapi.Command, req nodeapi.Guest) (vm.GuestInfo, error) {
	return withGuest(ctx, n, c, req, func(a *guestagent.Agent) (vm.GuestInfo, error) { return a.Info(ctx) })
}

func (n *Node) guestExec(ctx context.Context, c nodeapi.Command, req nodeapi.GuestExec) (vm.GuestExec, error) {
	if req.Command == "" || req.Timeout <= 0 || req.Timeout > nodeapi.GuestExecMax || len(req.Stdin) > nodeapi.GuestStdinMax {
		return vm.GuestExec{}, nodeapi.ErrInvalidCommand
	}
	return withGuest(ctx, n, c, req.Guest, func(a *guestagent.Agent) (vm.GuestExec, error) { return a.Exec(ctx, req) })
}

func (n *Node) guestPassword(ctx context.Context, c nodeapi.Command, req nodeapi.GuestPassword) (nodeapi.Empty, error) {
	return withGuest(ctx, n, c, req.Guest, func(a *guestagent.Agent) (nodeapi.Empty, error) {
		return nodeapi.Empty{}, a.SetPassword(ctx, req.Username, req.Password, req.Hashed)
	})
}

func (n *Node) guestTime(ctx context.Context, c nodeapi.Command, req nodeapi.Guest) (vm.GuestTime, error) {
	return withGuest(ctx, n, c, req, func(a *guestagent.Agent) (vm.GuestTime, error) { return a.SyncTime(ctx) })
}

// guestPush fetches a file from the controller and puts it into the guest as it comes.
func (n *Node) guestPush(ctx context.Context, c nodeapi.Command, req nodeapi.GuestPush) (vm.GuestFile, error) {
	if path.Base(req.Path) == "/" || strings.HasSuffix(req.Path, "/") {
		return vm.GuestFile{}, vm.ErrGuestInvalid.WithField("query.path", "names no file", req.Path)
	}
	return withGuest(ctx, n, c, req.Guest, func(a *guestagent.Agent) (vm.GuestFile, error) {
		body, _, err := n.cfg.Dialer.Get(ctx, req.StreamURL, 0)
		if err != nil {
			return vm.GuestFile{}, nodeapi.ErrInvalidCommand.WithMessage("the file's stream cannot be reached").Wrap(err)
		}
		defer body.Close()
		from := &broken{r: io.LimitReader(body, req.MaxBytes+1)}
		size, err := a.Push(ctx, req.Path, req.Mode, from)
		switch {
		case from.err != nil:
			return vm.GuestFile{}, vm.ErrGuestFileBroken.Wrap(errors.Join(from.err, err))
		case err != nil:
			return vm.GuestFile{}, err
		case size > req.MaxBytes: // the controller sees to that before
			return vm.GuestFile{}, vm.ErrGuestFileSize
		}
		return vm.GuestFile{Path: req.Path, SizeBytes: size}, nil
	})
}

// broken notes that a stream did not end as it should.
type broken struct {
	r   io.Reader
	err error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = fmt.Errorf("fetch the file: %w", err)
		err = b.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) { // io.ReadFull takes it for the end
		err = errBroken
	}
	return n, err
}

var errBroken = errors.New("the stream of the file ended too early")

// guestPull reads a file of the guest and passes it to the controller as it comes.
func (n *Node) guestPull(ctx context.Context, c nodeapi.Command, req nodeapi.GuestPull) (vm.GuestFile, error) {
	return withGuest(ctx, n, c, req.Guest, func(a *guestagent.Agent) (_ vm.GuestFile, err error) {
		f, err := a.Open(ctx, req.Path, req.MaxBytes)
		if err != nil {
			return vm.GuestFile{}, err
		}
		defer func() { err = errors.Join(err, f.Close(ctx)) }()
		conn, err := n.cfg.Dialer.Upgrade(ctx, req.StreamURL)
		if err != nil {
			return vm.GuestFile{}, nodeapi.ErrInvalidCommand.WithMessage("the file's stream cannot be reached").Wrap(err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a reader that reads no more holds up nobody
		if err := binary.Write(conn, binary.BigEndian, f.Size); err != nil {
			return vm.GuestFile{}, vm.ErrGuestFileBroken.Wrap(err)
		}
		return vm.GuestFile{Path: req.Path, SizeBytes: f.Size}, f.Copy(ctx, conn)
	})
}
