package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// How much of a console log is kept. What a guest writes fills the node's disk otherwise.
const (
	consoleKept  = 1 << 20          // bytes of its end
	consoleMax   = 4 << 20          // bytes that it may take before it is cut
	consoleEvery = 10 * time.Second // how often that is looked at
)

// cutConsoles keeps console logs from growing without an end, until the store is closed.
func (s *Store) cutConsoles() {
	tick := time.NewTicker(consoleEvery)
	defer tick.Stop()
	for {
		vms, err := s.VMs()
		for _, vm := range vms {
			err = errors.Join(err, s.cutConsole(vm))
		}
		if err != nil && s.life.Err() == nil {
			s.log.WarnContext(context.WithoutCancel(s.life), "console logs could not be cut; it is tried again", "error", err)
		}
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
		}
	}
}

// cutConsole gives back what the beginning of a long console log takes. It becomes a hole, and the log keeps its length: whoever writes goes on at the
// end, nothing that is written meanwhile is lost, and what readers have seen stays where it was.
func (s *Store) cutConsole(vm uuid.UUID) error {
	path := s.ConsolePath(vm)
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the console log of %s: %w", vm, err)
	case st.Blocks*512 <= consoleMax || st.Size <= consoleKept:
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open the console log of %s: %w", vm, err)
	}
	defer f.Close()     // nothing was written
	whole := st.Blksize // of a block, so that what is left begins with what was written
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, (st.Size-consoleKept)/whole*whole)
	if errors.Is(err, unix.EOPNOTSUPP) { // a file system without holes begins anew
		err = f.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("cut the console log of %s: %w", vm, err)
	}
	return nil
}

// firstKept is where a console log begins that was cut.
func firstKept(f *os.File) (int64, error) {
	first, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing is in it
		return 0, nil
	case err != nil:
		return 0, err
	}
	return first, nil
}

// ReadConsole reads a part of the console log, as far as it is still kept. A virtual machine that has said nothing yet has an empty one.
func (s *Store) ReadConsole(vm uuid.UUID, req nodeapi.ConsoleRead) (nodeapi.ConsoleChunk, error) {
	f, err := os.Open(s.ConsolePath(vm))
	if errors.Is(err, fs.ErrNotExist) {
		if !s.Has(vm) {
			return nodeapi.ConsoleChunk{}, nodeapi.ErrNotDefined
		}
		return nodeapi.ConsoleChunk{}, nil
	}
	if err != nil {
		return nodeapi.ConsoleChunk{}, failed("open the console log", err)
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return nodeapi.ConsoleChunk{}, failed("read the console log", err)
	}
	size, offset := info.Size(), req.Offset
	if offset < 0 {
		offset = max(0, size+offset)
	}
	first, err := firstKept(f)
	if err != nil {
		return nodeapi.ConsoleChunk{}, failed("read the console log", err)
	}
	offset = min(max(offset, first), size)
	limit := int64(req.MaxBytes)
	if limit <= 0 || limit > nodeapi.ConsoleChunkMax {
		limit = nodeapi.ConsoleChunkMax
	}
	data := make([]byte, min(limit, size-offset))
	n, err := f.ReadAt(data, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nodeapi.ConsoleChunk{}, failed("read the console log", err)
	}
	return nodeapi.ConsoleChunk{Offset: offset, Size: size, Data: data[:n]}, nil
}
