package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// lockPatience is how long takeLock waits for a holder that is just dying: the kernel closes the files of a killed process a moment
// after the signal.
const lockPatience = 2 * time.Second

// takeLock takes the folder for this process. The lock belongs to the open file, which no child inherits, so it ends with us.
func takeLock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, f.Close()))
		}
		select {
		case <-wait.Done():
			return nil, ErrInUse.WithMessage("another process runs the database in %s", filepath.Dir(path)).
				Wrap(errors.Join(err, f.Close()))
		case <-tick.C:
		}
	}
}

// prepareDir creates the data folder. Others may pass through it, to the socket and the cluster that guard themselves, but
// not list it.
func (s *Server) prepareDir() error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o711); err != nil {
		return fmt.Errorf("create database folder: %w", err)
	}
	if err := os.Chmod(s.cfg.DataDir, 0o711); err != nil {
		return fmt.Errorf("create database folder: %w", err)
	}
	return nil
}

// reachable tries to enter the data folder as the owner: the kernel knows about modes, access lists and mounts.
func (s *Server) reachable(ctx context.Context, r *run) error {
	cmd := exec.CommandContext(ctx, r.inst.path("postgres"), "--version")
	cmd.Dir, cmd.Env = s.cfg.DataDir, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.own.cred}
	err := cmd.Run()
	if errors.Is(err, os.ErrPermission) {
		return ErrUnreachable.WithMessage("user %s, who owns the database, cannot enter %s", r.own.name, s.cfg.DataDir).
			WithAction("chmod a+x every folder on the way to it, or choose another data folder.").Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("try %s as user %s: %w", cmd.Path, r.own.name, err)
	}
	return nil
}
