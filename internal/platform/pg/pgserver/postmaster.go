package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postmaster is one run of PostgreSQL's main process.
type postmaster struct {
	pid  int
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done
}

// launch starts the postmaster. It does not wait until it is ready.
//
// The kernel sends the parent-death signal when the *thread* that forked ends, so that thread is kept for as long as the
// postmaster lives: prctl(2), PR_SET_PDEATHSIG.
func (s *Server) launch(inst installation, own owner, log *os.File) (*postmaster, error) {
	cmd := exec.Command(inst.path("postgres"),
		"-D", s.cluster(),
		"-c", "listen_addresses=",
		"-c", "port="+port,
		"-c", "unix_socket_directories="+s.socketDir,
		"-c", "unix_socket_permissions=0700",
	)
	cmd.Dir, cmd.Env = s.cluster(), environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: own.cred,
		Setsid:     true, // Ctrl-C in a terminal is for novacron, which stops the database last
		Pdeathsig:  syscall.SIGINT,
	}
	p := &postmaster{done: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the postmaster
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return p, nil
}

// signal sends sig, unless the process has ended.
func (p *postmaster) signal(sig syscall.Signal) {
	select {
	case <-p.done: // its number may belong to somebody else by now
	default:
		// It fails only when the process has just ended.
		_ = syscall.Kill(p.pid, sig)
	}
}

// stop ends the postmaster: orderly until ctx ends, then at once.
func (p *postmaster) stop(ctx context.Context) error {
	p.signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		p.signal(sig)
		t := time.NewTimer(urgentWait)
		select {
		case <-p.done:
			t.Stop()
			return fmt.Errorf("orderly stop of PostgreSQL: %w; it was ended at once and will recover at its next start", ctx.Err())
		case <-t.C:
		}
	}
	return fmt.Errorf("PostgreSQL process %d cannot be ended", p.pid)
}

// awaitReady returns when the server answers queries, has died, or ctx ends.
func (s *Server) awaitReady(ctx context.Context, p *postmaster) error {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("postgres ended: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// ping asks the server for an answer, on a connection of its own.
func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return s.exec(ctx, "postgres", "SELECT 1")
}

// exec runs one statement as superuser.
func (s *Server) exec(ctx context.Context, db, statement string) error {
	conn, err := pgx.Connect(ctx, s.dsn(db))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
