package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxLog is how large postgresql.log may grow before it becomes postgresql.log.1, whose predecessor goes.
const maxLog = 8 << 20

// openLog opens the file that the postmaster writes to directly: its last words reach the disk even when this process is gone.
func (s *Server) openLog() (*os.File, error) {
	dir := filepath.Join(s.cfg.DataDir, "log")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log folder: %w", err)
	}
	f, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

func (s *Server) logPath() string { return filepath.Join(s.cfg.DataDir, "log", "postgresql.log") }

// boundLog keeps the log small until ctx ends.
func (s *Server) boundLog(ctx context.Context, f *os.File) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := rotate(f, maxLog); err != nil {
				s.log.Error("rotate PostgreSQL log", "error", err)
			}
		}
	}
}

// rotate copies a log that has grown beyond limit to <name>.1 and empties it. The postmaster keeps writing to the same file;
// it appends, so that it continues at the new end. A line written in between may be lost.
func rotate(f *os.File, limit int64) (err error) {
	fi, err := f.Stat()
	if err != nil || fi.Size() <= limit {
		return err
	}
	old, err := os.OpenFile(f.Name()+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	// Only the end, should it have grown far beyond the limit.
	if _, err := io.Copy(old, io.NewSectionReader(f, max(0, fi.Size()-limit), limit)); err != nil {
		return err
	}
	return f.Truncate(0)
}

// tail gives the log's last lines, for an error message.
func (s *Server) tail(f *os.File) string {
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	const window = 4 << 10
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-window), window))
	if err != nil {
		return ""
	}
	return lastLines(string(b), 3)
}
