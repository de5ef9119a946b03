package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says where the private PostgreSQL lives.
type Config struct {
	// DataDir is the server's own folder, by convention <data>/postgres. It is created; the folders above it must let
	// the owner pass (0711).
	DataDir string
	Log     *slog.Logger // nil: slog.Default
	// User owns the cluster when this process is root. Empty means "postgres". Any other process owns it itself.
	User string
	// BinDirs are the folders to look in for PostgreSQL's programs. Nil means the distribution's and PATH.
	BinDirs []string
	// FastUnsafe trades durability for speed. For tests only.
	FastUnsafe bool
}

// The pause before a dead postmaster is started again: it doubles from the first to the last with every failure, and starts
// over after a run that lasted longer than the longest pause.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 15 * time.Second
)

// Server is a supervised PostgreSQL. Its methods may be called from any goroutine.
type Server struct {
	cfg       Config
	log       *slog.Logger
	socketDir string

	life sync.Mutex // held by Start and Stop, so that they take turns
	run  *run       // nil: stopped; guarded by life

	mu       sync.Mutex // guards the following
	current  *postmaster
	ready    bool
	restarts int
}

// run is what exists between Start and Stop.
type run struct {
	lock      *os.File
	log       *os.File
	socketDir string // set once it exists
	inst      installation
	own       owner
	cancel    context.CancelFunc // ends supervisor and log keeper
	ended     sync.WaitGroup
}

// New makes a Server. It touches nothing before Start.
func New(cfg Config) *Server {
	if cfg.User == "" {
		cfg.User = "postgres"
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if abs, err := filepath.Abs(cfg.DataDir); err == nil {
		cfg.DataDir = abs
	}
	return &Server{cfg: cfg, log: cfg.Log, socketDir: socketDir(cfg.DataDir)}
}

func (s *Server) cluster() string { return filepath.Join(s.cfg.DataDir, "cluster") }

// URL names the database "novacron" of this server, as superuser. It is the same before, during and after a run.
func (s *Server) URL() string { return s.dsn(database) }

// Restarts counts how often the postmaster died and was started again.
func (s *Server) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// PID is the postmaster's process id; 0 while it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.pid
}

// Ready fails unless the server answers a query now.
func (s *Server) Ready(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if !ready {
		return ErrNotRunning
	}
	if err := s.ping(ctx); err != nil {
		return ErrNotRunning.Wrap(err)
	}
	return nil
}

// Start creates the cluster where there is none and returns when the server answers queries. A started server is left as it is.
// After a crash of the host it may have to recover first; ctx bounds how long that may take.
func (s *Server) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.run != nil {
		return nil
	}
	r := &run{}
	p, err := s.start(ctx, r)
	if err != nil {
		return errors.Join(err, s.release(r))
	}
	super, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	s.setCurrent(p, true)
	r.ended.Go(func() { s.supervise(super, r, p) })
	r.ended.Go(func() { s.boundLog(super, r.log) })
	s.run = r
	return nil
}

// start does the work of Start; what it acquired is in r, also when it fails.
func (s *Server) start(ctx context.Context, r *run) (*postmaster, error) {
	var err error
	if r.own, err = findOwner(s.cfg.User); err != nil {
		return nil, err
	}
	if err := s.prepareDir(); err != nil {
		return nil, err
	}
	if r.lock, err = takeLock(ctx, filepath.Join(s.cfg.DataDir, "lock")); err != nil {
		return nil, err
	}
	major, err := clusterMajor(s.cluster())
	if err != nil {
		return nil, err
	}
	if r.inst, err = choose(installations(ctx, s.cfg.BinDirs), major, s.cluster()); err != nil {
		return nil, err
	}
	if err := s.reachable(ctx, r); err != nil {
		return nil, err
	}
	if r.log, err = s.openLog(); err != nil {
		return nil, err
	}
	if err := r.own.privateDir(s.socketDir); err != nil {
		return nil, fmt.Errorf("create socket folder: %w", err)
	}
	r.socketDir = s.socketDir
	if major == 0 {
		s.log.Info("creating the private PostgreSQL", "version", r.inst.major, "folder", s.cluster())
		if err := s.initCluster(ctx, r.inst, r.own); err != nil {
			return nil, err
		}
	}
	p, err := s.bringUp(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.ensureDatabase(ctx); err != nil {
		return nil, errors.Join(err, p.stop(ctx))
	}
	s.log.Info("private PostgreSQL is ready", "version", r.inst.major, "pid", p.pid, "socket", s.socketDir)
	return p, nil
}

// bringUp starts the postmaster on a cluster that nothing else works in, and waits until it answers.
func (s *Server) bringUp(ctx context.Context, r *run) (*postmaster, error) {
	if err := s.clearLeftovers(ctx); err != nil {
		return nil, err
	}
	if err := s.writeSettings(); err != nil {
		return nil, err
	}
	p, err := s.launch(r.inst, r.own, r.log)
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, p); err != nil {
		now, cancel := context.WithCancel(ctx)
		cancel()
		select {
		case <-p.done: // it gave up by itself
		default:
			err = errors.Join(err, p.stop(now))
		}
		return nil, ErrStartFailed.WithMessage("PostgreSQL does not start; %s says: %s", s.logPath(), s.tail(r.log)).Wrap(err)
	}
	return p, nil
}

// supervise starts the postmaster again whenever it dies, until ctx ends; then it leaves the living one to Stop.
func (s *Server) supervise(ctx context.Context, r *run, p *postmaster) {
	pause, began := firstPause, time.Now()
	for {
		if p != nil {
			select {
			case <-ctx.Done():
				return
			case <-p.done:
			}
			s.setCurrent(nil, false)
			s.log.Error("the private PostgreSQL died", "error", p.err, "log", s.logPath())
			if time.Since(began) > lastPause {
				pause = firstPause
			}
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause, began = min(2*pause, lastPause), time.Now()
		var err error
		if p, err = s.bringUp(ctx, r); err != nil {
			if ctx.Err() == nil {
				s.log.Error("the private PostgreSQL does not come back", "error", err, "next_try_in", pause)
			}
			p = nil
			continue
		}
		s.setCurrent(p, true)
		s.mu.Lock()
		s.restarts++
		s.mu.Unlock()
		s.log.Warn("the private PostgreSQL is back", "pid", p.pid)
	}
}

func (s *Server) setCurrent(p *postmaster, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.ready = p, ready
}

// Stop ends the server in good order; when ctx ends first, it ends it at once and says so. Stopping a stopped server does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	r := s.run
	if r == nil {
		return nil
	}
	s.run = nil
	r.cancel()
	r.ended.Wait()
	s.mu.Lock()
	p := s.current
	s.current, s.ready = nil, false
	s.mu.Unlock()
	var err error
	if p != nil {
		err = p.stop(ctx)
	}
	return errors.Join(err, s.release(r))
}

// release gives back what a run holds; the lock goes last, with its file.
func (s *Server) release(r *run) error {
	var err error
	// A socket folder outside the data folder would otherwise outlive the data.
	if r.socketDir != "" && filepath.Dir(r.socketDir) != s.cfg.DataDir {
		err = os.RemoveAll(r.socketDir)
	}
	if r.log != nil {
		err = errors.Join(err, r.log.Close())
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
	}
	return err
}

// ensureDatabase creates our database on the first start, or after one that was cut short.
func (s *Server) ensureDatabase(ctx context.Context) error {
	if s.exec(ctx, database, "SELECT 1") == nil {
		return nil
	}
	if err := s.exec(ctx, "postgres", "CREATE DATABASE "+database); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}
