package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "embed"
)

// settings is novacron.conf.
//
//go:embed novacron.conf
var settings string

const unsafeSettings = `
# For tests: faster, and lost with the power. What was committed survives the death of the server all the same.
fsync = off
full_page_writes = off
shared_buffers = 32MB
`

// environment is all that PostgreSQL's programs get to see; PGDATA, PGPORT and the like must not reach them.
func environment() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/nonexistent"}
}

// clusterMajor gives the major version that made the cluster, or 0 when there is none.
func clusterMajor(cluster string) (int, error) {
	b, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(cluster); err == nil {
			return 0, ErrStartFailed.WithMessage("%s exists but holds no PostgreSQL cluster", cluster).
				WithAction("Move it away; a new cluster is then created.")
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of cluster: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, ErrVersionMismatch.WithMessage("%s holds a cluster of PostgreSQL %q, which novacron cannot run",
			cluster, strings.TrimSpace(string(b))).WithAction("Move it to PostgreSQL 15 or later by pg_upgrade.")
	}
	return major, nil
}

// initCluster creates the cluster beside its final place and renames it there once it is complete and on disk, so that a
// crash leaves either no cluster or a whole one.
func (s *Server) initCluster(ctx context.Context, inst installation, own owner) error {
	old, err := filepath.Glob(filepath.Join(s.cfg.DataDir, "initdb-*"))
	if err != nil {
		return fmt.Errorf("look for unfinished clusters: %w", err)
	}
	for _, d := range old { // nobody else makes them: we hold the lock
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("remove unfinished cluster: %w", err)
		}
	}
	tmp := filepath.Join(s.cfg.DataDir, "initdb-"+strconv.Itoa(os.Getpid()))
	if err := own.privateDir(tmp); err != nil {
		return fmt.Errorf("create cluster folder: %w", err)
	}
	args := []string{
		"--pgdata=" + tmp, "--username=" + superuser, "--auth-local=trust", "--auth-host=reject",
		"--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-instructions",
	}
	if s.cfg.FastUnsafe {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, inst.path("initdb"), args...)
	cmd.Dir, cmd.Env = tmp, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: own.cred, Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", ctx.Err())
		}
		return ErrStartFailed.WithMessage("PostgreSQL's initdb failed: %s", lastLines(string(out), 3)).
			WithAction("Check that the disk is not full.").Wrap(fmt.Errorf("initdb: %w: %s", err, out))
	}
	// Ours comes last in the file: it wins over what initdb wrote, and ALTER SYSTEM wins over ours.
	if err := appendSync(filepath.Join(tmp, "postgresql.conf"), "\ninclude = '../novacron.conf'\n"); err != nil {
		return fmt.Errorf("include our settings: %w", err)
	}
	if err := os.Rename(tmp, s.cluster()); err != nil {
		return fmt.Errorf("put cluster into place: %w", err)
	}
	return syncDir(s.cfg.DataDir)
}

// writeSettings renews novacron.conf, so that an update of novacron brings its settings along.
func (s *Server) writeSettings() error {
	text := settings
	if s.cfg.FastUnsafe {
		text += unsafeSettings
	}
	path := filepath.Join(s.cfg.DataDir, "novacron.conf")
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write settings: %w", err)
	}
	if err := appendSync(tmp, text); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	// The cluster's owner reads it, whatever our umask; there are no secrets in it.
	if err := os.Chmod(tmp, 0o644); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

// appendSync appends to a file, which it creates where needed, and waits until that is on disk.
func appendSync(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// lastLines gives the end of a program's output, for a message.
func lastLines(out string, n int) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
