package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

// Limits of what guests are asked for. The node has its own, which are a little shorter, so that its answer is the one that is seen.
const (
	guestTimeout     = time.Minute
	guestMargin      = 30 * time.Second
	guestFileTimeout = time.Hour
	// DefaultExecTimeout is how long a program may run that nobody waits longer for.
	DefaultExecTimeout = 30 * time.Second
)

// guest finds a virtual machine whose agent the caller may ask for what permission names.
func (s *Service) guest(ctx context.Context, id uuid.UUID, permission string) (store.Record, nodeapi.Guest, error) {
	r, err := s.recordTo(ctx, id, permission)
	if err != nil {
		return r, nodeapi.Guest{}, err
	}
	if r.State != vm.StateRunning || r.NodeID == nil {
		return r, nodeapi.Guest{}, wrongState(r, "asked through its agent", "running")
	}
	return r, nodeapi.Guest{TenantID: r.TenantID}, nil
}

// askGuest sends a command of the guest agent to the node. It waits for no operation and holds none up.
func askGuest[Resp any](ctx context.Context, s *Service, r store.Record, verb nodeapi.Verb, limit time.Duration, req any) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return nodeapi.Do[Resp](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: r.ID}, verb, req)
}

// GuestInfo tells what the agent in a guest knows.
func (s *Service) GuestInfo(ctx context.Context, id uuid.UUID) (vm.GuestInfo, error) {
	r, whose, err := s.guest(ctx, id, "guest:read")
	if err != nil {
		return vm.GuestInfo{}, err
	}
	return askGuest[vm.GuestInfo](ctx, s, r, nodeapi.VerbGuestInfo, guestTimeout, whose)
}

// ExecRequest says what to run in a guest.
type ExecRequest struct {
	VMID    uuid.UUID
	Command string
	Args    []string
	Env     map[string]string
	Stdin   []byte
	Timeout time.Duration // 0: DefaultExecTimeout
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (r ExecRequest) check() error {
	size := len(r.Command)
	for i, arg := range r.Args {
		if strings.ContainsRune(arg, 0) {
			return vm.ErrGuestInvalid.WithField(fmt.Sprintf("body.args[%d]", i), "must not contain NUL", "")
		}
		size += len(arg) + 1
	}
	for name, value := range r.Env {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			return vm.ErrGuestInvalid.WithField("body.env", "has names of letters, digits and '_' that begin with no digit, and values without NUL", name)
		}
		size += len(name) + len(value) + 2
	}
	switch {
	case strings.ContainsRune(r.Command, 0):
		return vm.ErrGuestInvalid.WithField("body.command", "must not contain NUL", "")
	case size > nodeapi.GuestArgsMax:
		return vm.ErrGuestInvalid.WithField("body.args", fmt.Sprintf("command, arguments and environment together have more than %d bytes", nodeapi.GuestArgsMax), "")
	case len(r.Stdin) > nodeapi.GuestStdinMax:
		return vm.ErrGuestInvalid.WithField("body.stdin", fmt.Sprintf("has more than %d bytes; put a file into the guest instead", nodeapi.GuestStdinMax), "")
	}
	return nil
}

// GuestExec runs a program in a guest and waits for its end.
func (s *Service) GuestExec(ctx context.Context, req ExecRequest) (vm.GuestExec, error) {
	r, whose, err := s.guest(ctx, req.VMID, "guest:exec")
	if err != nil {
		return vm.GuestExec{}, err
	}
	if err := req.check(); err != nil {
		return vm.GuestExec{}, err
	}
	if req.Timeout <= 0 {
		req.Timeout = DefaultExecTimeout
	}
	timeout := min(req.Timeout, nodeapi.GuestExecMax)
	return askGuest[vm.GuestExec](ctx, s, r, nodeapi.VerbGuestExec, timeout+guestMargin,
		nodeapi.GuestExec{Guest: whose, Command: req.Command, Args: req.Args, Env: req.Env, Stdin: req.Stdin, Timeout: timeout})
}

// SetGuestPassword sets the password of a user of a guest.
func (s *Service) SetGuestPassword(ctx context.Context, id uuid.UUID, username, password string, hashed bool) error {
	r, whose, err := s.guest(ctx, id, "guest:password")
	if err != nil {
		return err
	}
	// The agent hands "name:password" and the end of a line to chpasswd(8).
	if strings.ContainsFunc(username, unicode.IsControl) || strings.ContainsAny(username, ":") {
		return vm.ErrGuestInvalid.WithField("body.username", "must have no ':' and no control characters", username)
	}
	if strings.ContainsAny(password, "\x00\n\r") {
		return vm.ErrGuestInvalid.WithField("body.password", "must be one line", "")
	}
	_, err = askGuest[nodeapi.Empty](ctx, s, r, nodeapi.VerbGuestPassword, guestTimeout,
		nodeapi.GuestPassword{Guest: whose, Username: username, Password: password, Hashed: hashed})
	return err
}

// SyncGuestTime sets a guest's clock to its node's.
func (s *Service) SyncGuestTime(ctx context.Context, id uuid.UUID) (vm.GuestTime, error) {
	r, whose, err := s.guest(ctx, id, "guest:time")
	if err != nil {
		return vm.GuestTime{}, err
	}
	return askGuest[vm.GuestTime](ctx, s, r, nodeapi.VerbGuestTime, guestTimeout, whose)
}

var fileMode = regexp.MustCompile(`^[0-7]{3,4}$`)

// checkPath refuses what no guest has. Whether it is there is the guest's to say.
func checkPath(path string) error {
	switch {
	case path == "":
		return vm.ErrGuestInvalid.WithField("query.path", "is required", "")
	case len(path) > 4096 || strings.ContainsFunc(path, unicode.IsControl):
		return vm.ErrGuestInvalid.WithField("query.path", "must have at most 4096 bytes and no control characters", path)
	case path[0] != '/' && !(len(path) > 2 && path[1] == ':'): // C:\…
		return vm.ErrGuestInvalid.WithField("query.path", "must be absolute", path)
	}
	return nil
}

// PushGuestFile puts a file into a guest as it comes.
func (s *Service) PushGuestFile(ctx context.Context, id uuid.UUID, path, mode string, body io.Reader) (vm.GuestFile, error) {
	r, whose, err := s.guest(ctx, id, "guest:push")
	if err == nil {
		err = checkPath(path)
	}
	if err == nil && mode != "" && !fileMode.MatchString(mode) {
		err = vm.ErrGuestInvalid.WithField("query.mode", "must be three or four octal digits", mode)
	}
	if err != nil {
		return vm.GuestFile{}, err
	}
	from := &source{r: body, left: s.cfg.GuestFileMax}
	url, revoke := s.streams.Offer(http.HandlerFunc(from.serve), true, guestTimeout)
	defer revoke()
	file, err := askGuest[vm.GuestFile](ctx, s, r, nodeapi.VerbGuestPush, guestFileTimeout,
		nodeapi.GuestPush{Guest: whose, Path: path, Mode: mode, StreamURL: url, MaxBytes: s.cfg.GuestFileMax})
	if why := from.end(); err != nil && why != nil {
		return vm.GuestFile{}, why
	}
	return file, err
}

// source passes a body on to a node. The body belongs to a request that ends when the node's command does, and nothing may read it then.
type source struct {
	r    io.Reader
	left int64

	mu    sync.Mutex // held while the body is read; guards the rest
	ended bool
	err   error // of the body
}

var errEnded = errors.New("the request that the file came with has ended")

// Read implements io.Reader.
func (f *source) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return 0, errEnded
	}
	n, err := f.r.Read(p)
	switch f.left -= int64(n); {
	case f.left < 0:
		n, err = 0, vm.ErrGuestFileSize
	case err != nil && !errors.Is(err, io.EOF):
		err = vm.ErrGuestFileBroken.Wrap(err)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// serve sends the body to the node. A connection that is cut off tells it that the body did not come whole.
func (f *source) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, f); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// end lets nothing be read any more, and tells how the body failed, if it did.
func (f *source) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	return f.err
}

// PulledFile is a file of a guest on its way.
type PulledFile struct {
	SizeBytes int64
	conn      net.Conn
	done      <-chan error
	cancel    context.CancelFunc
}

// PullGuestFile begins to fetch a file of a guest. The caller closes it.
func (s *Service) PullGuestFile(ctx context.Context, id uuid.UUID, path string) (_ *PulledFile, err error) {
	r, whose, err := s.guest(ctx, id, "guest:pull")
	if err == nil {
		err = checkPath(path)
	}
	if err != nil {
		return nil, err
	}
	connected := make(chan net.Conn, 1)
	url, revoke := s.streams.Offer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := stream.Accept(w, req)
		if err != nil {
			s.log.WarnContext(ctx, "node's file stream could not be taken over", "vm_id", id, "error", err)
			return
		}
		connected <- conn
	}), true, guestTimeout)
	defer revoke()
	ctx, cancel := context.WithTimeout(ctx, guestFileTimeout)
	done := make(chan error, 1)
	go func() { // ends with the command, at the latest when the file is closed
		_, err := nodeapi.Do[vm.GuestFile](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: r.ID}, nodeapi.VerbGuestPull,
			nodeapi.GuestPull{Guest: whose, Path: path, StreamURL: url, MaxBytes: s.cfg.GuestFileMax})
		done <- err
	}()
	f := &PulledFile{done: done, cancel: cancel}
	select {
	case f.conn = <-connected:
	case err = <-done:
		if err != nil {
			cancel()
			return nil, err
		}
		again := make(chan error, 1) // it was short: the command has ended, and the connection is about to be taken over
		again <- nil
		f.done = again
		select {
		case f.conn = <-connected:
		case <-ctx.Done():
			cancel()
			return nil, vm.ErrGuestFileBroken.Wrap(context.Cause(ctx))
		}
	}
	if err := binary.Read(f.conn, binary.BigEndian, &f.SizeBytes); err != nil || f.SizeBytes < 0 || f.SizeBytes > s.cfg.GuestFileMax {
		return nil, errors.Join(vm.ErrGuestFileBroken.Wrap(err), f.Close())
	}
	return f, nil
}

// Copy passes the whole file on, or fails.
func (f *PulledFile) Copy(to io.Writer) error {
	if n, err := io.CopyN(to, f.conn, f.SizeBytes); err != nil {
		return fmt.Errorf("pass on %d of %d bytes of the file: %w", n, f.SizeBytes, err)
	}
	return nil
}

// Close ends it, and tells how it went on the node.
func (f *PulledFile) Close() error {
	_ = f.conn.Close() // the node notices
	defer f.cancel()
	select {
	case err := <-f.done:
		return err
	case <-time.After(guestMargin):
		return nil
	}
}
