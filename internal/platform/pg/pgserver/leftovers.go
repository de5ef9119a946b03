package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How long what is left of an earlier run may take to obey each signal.
const (
	politeWait = 15 * time.Second // after SIGINT: the postmaster's fast shutdown, with a checkpoint
	urgentWait = 5 * time.Second  // after SIGQUIT: immediate shutdown
)

// clearLeftovers returns when no PostgreSQL process works in the cluster any more: neither a postmaster that survived the
// process that had started it, nor backends that survived their postmaster. The caller holds the lock of the data folder,
// so whatever runs there has lost its master.
func (s *Server) clearLeftovers(ctx context.Context) error {
	began := time.Now()
	asked := map[int]syscall.Signal{}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, err := workersIn(s.cluster())
		if err != nil {
			return fmt.Errorf("look for processes of an earlier run: %w", err)
		}
		if len(pids) == 0 {
			break
		}
		sig, only := syscall.SIGINT, postmasterPID(s.cluster())
		if waited := time.Since(began); waited > politeWait+urgentWait {
			sig, only = syscall.SIGKILL, 0
		} else if waited > politeWait {
			sig, only = syscall.SIGQUIT, 0
		}
		for _, pid := range pids {
			// A postmaster takes its children along. Where it is gone, its children notice within a moment.
			if asked[pid] == sig || (only != 0 && pid != only) {
				continue
			}
			asked[pid] = sig
			s.log.Warn("stopping a PostgreSQL process that an earlier run left behind", "pid", pid, "signal", sig.String())
			if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop process %d of an earlier run: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for processes of an earlier run: %w", ctx.Err())
		case <-tick.C:
		}
	}
	// PostgreSQL refuses to start while the process that postmaster.pid names lives, and after a reboot that number may belong
	// to another cluster of the same user. We have just seen that nothing runs in ours.
	if err := os.Remove(filepath.Join(s.cluster(), "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale postmaster.pid: %w", err)
	}
	return nil
}

// workersIn finds the processes of PostgreSQL whose working folder is the cluster: the postmaster changes there, and its children
// inherit that. Zombies have none and are not found. Processes that we may not look at belong to other users.
func workersIn(cluster string) ([]int, error) {
	want, err := os.Stat(cluster)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		// After an upgrade of the package the kernel adds " (deleted)".
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
			continue
		}
		if cwd, err := os.Stat(filepath.Join("/proc", e.Name(), "cwd")); err == nil && os.SameFile(cwd, want) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// postmasterPID reads the first line of postmaster.pid; 0 when there is none.
func postmasterPID(cluster string) int {
	b, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
