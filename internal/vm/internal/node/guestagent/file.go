package guestagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/vm"
)

// How much of a file travels with one command. With base64 and the frame around it, it stays far below what libvirt passes on. Agents read
// commands much more slowly than they write answers: an emulated guest takes some seconds for half a MiB.
const (
	writeChunk = 32 << 10
	readChunk  = 128 << 10
	// maxUnsized is how large a file may be that does not tell its size.
	maxUnsized = 512 << 10
)

// The steps of a push in the guest. The new content is written to a file of its own beside the target, which nobody else can read (the agent
// makes files that everybody can write), and takes the target's place when it is whole. A target that is there keeps owner, mode and
// links: it gets the content, not a new file.
const (
	pushBegin = `set -e; if [ -d "$2" ]; then echo "$2 is a directory" >&2; exit 1; fi; umask 077; : >"$1"`
	pushEnd   = `set -e; if [ -e "$2" ]; then cat -- "$1" >"$2"; rm -f -- "$1"; [ -z "$3" ] || chmod "$3" "$2"
else chmod "${3:-0644}" "$1"; mv -- "$1" "$2"; fi`
	pushUndo = `rm -f -- "$1"`
)

// undoTime is how long it may take to remove what a push that failed has left.
const undoTime = 10 * time.Second

// Push puts a file into the guest. A mode is octal; empty is that of the file that is there, or 0644.
func (a *Agent) Push(ctx context.Context, path, mode string, from io.Reader) (size int64, err error) {
	temporary := path + ".novacron-" + strings.ToLower(rand.Text()[:8])
	if err := a.run(ctx, pushBegin, temporary, path); err != nil {
		if !errors.Is(err, vm.ErrAgentRefused) || a.hasShell(ctx) {
			return 0, err
		}
		if mode != "" {
			return 0, vm.ErrGuestInvalid.WithMessage("this guest's files have no mode").WithField("query.mode", "must be left out for this guest", mode)
		}
		return a.write(ctx, path, from)
	}
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			if left := a.run(undo, pushUndo, temporary); left != nil {
				err = fmt.Errorf("%w; %s is left in the guest: %w", err, temporary, left)
			}
		}
	}()
	if size, err = a.write(ctx, temporary, from); err != nil {
		return 0, err
	}
	return size, a.run(ctx, pushEnd, temporary, path, mode)
}

// write writes a file from its beginning.
func (a *Agent) write(ctx context.Context, path string, from io.Reader) (size int64, err error) {
	handle, err := a.open(ctx, path, "w")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.close(ctx, handle)) }()
	buffer := make([]byte, writeChunk)
	for {
		n, readErr := io.ReadFull(from, buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			var wrote struct {
				Count int `json:"count"`
			}
			if err := a.call(ctx, "guest-file-write", map[string]any{"handle": handle, "buf-b64": rest}, &wrote); err != nil {
				return size, err
			}
			if wrote.Count <= 0 || wrote.Count > len(rest) {
				return size, nonsense("guest-file-write")
			}
			rest = rest[wrote.Count:]
			size += int64(wrote.Count)
		}
		switch {
		case errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF):
			return size, nil
		case readErr != nil:
			return size, readErr
		}
	}
}

// File is a file of the guest that is open.
type File struct {
	Size   int64
	a      *Agent
	handle int64
	whole  []byte // of a file that does not tell its size; nil: it is read when it is copied
}

// Open opens a file to be read, if it is not larger than most.
func (a *Agent) Open(ctx context.Context, path string, most int64) (_ *File, err error) {
	handle, err := a.open(ctx, path, "r")
	if err != nil {
		return nil, err
	}
	f := &File{a: a, handle: handle}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(ctx))
		}
	}()
	// What the kernel makes up while it is read, as all of /proc, has no end to go to, or one at 0.
	if f.Size, err = a.seek(ctx, handle, 0, io.SeekEnd); err != nil && !errors.Is(err, vm.ErrAgentRefused) {
		return nil, err
	}
	if err != nil {
		f.Size = 0
	} else if _, err := a.seek(ctx, handle, 0, io.SeekStart); err != nil {
		return nil, err
	}
	if f.Size > most {
		return nil, vm.ErrGuestFileSize.WithMessage("the file has %d bytes, and at most %d are passed on", f.Size, most)
	}
	if f.Size == 0 {
		if f.whole, err = f.readWhole(ctx, min(most, maxUnsized)); err != nil {
			return nil, err
		}
		f.Size = int64(len(f.whole))
	}
	return f, nil
}

func (f *File) readWhole(ctx context.Context, most int64) ([]byte, error) {
	whole := []byte{}
	for {
		part, eof, err := f.read(ctx, most+1-int64(len(whole)))
		if err != nil {
			return nil, err
		}
		whole = append(whole, part...)
		if int64(len(whole)) > most {
			return nil, vm.ErrGuestFileSize.WithMessage("the file does not tell its size, and of such a one at most %d bytes are passed on", most)
		}
		if eof || len(part) == 0 {
			return whole, nil
		}
	}
}

// Copy writes as many bytes as the file had when it was opened.
func (f *File) Copy(ctx context.Context, to io.Writer) error {
	if f.whole != nil {
		_, err := io.Copy(to, bytes.NewReader(f.whole))
		return err
	}
	for left := f.Size; left > 0; {
		part, eof, err := f.read(ctx, left)
		if err != nil {
			return err
		}
		if len(part) == 0 || eof && int64(len(part)) < left {
			return vm.ErrGuestFileBroken.WithMessage("the file became shorter while it was read")
		}
		if _, err := to.Write(part); err != nil {
			return fmt.Errorf("pass the file on: %w", err)
		}
		left -= int64(len(part))
	}
	return nil
}

func (f *File) read(ctx context.Context, most int64) (part []byte, eof bool, err error) {
	most = min(most, readChunk)
	var got struct {
		Count int    `json:"count"`
		Data  []byte `json:"buf-b64"`
		EOF   bool   `json:"eof"`
	}
	if err := f.a.call(ctx, "guest-file-read", map[string]any{"handle": f.handle, "count": most}, &got); err != nil {
		return nil, false, err
	}
	if int64(len(got.Data)) > most || got.Count != len(got.Data) {
		return nil, false, nonsense("guest-file-read")
	}
	return got.Data, got.EOF, nil
}

// Close closes it in the guest.
func (f *File) Close(ctx context.Context) error { return f.a.close(ctx, f.handle) }

func (a *Agent) open(ctx context.Context, path, mode string) (handle int64, err error) {
	err = a.call(ctx, "guest-file-open", map[string]any{"path": path, "mode": mode}, &handle)
	return handle, err
}

// close closes a file also where what was done with it was given up.
func (a *Agent) close(ctx context.Context, handle int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return a.call(ctx, "guest-file-close", map[string]any{"handle": handle}, nil)
}

func (a *Agent) seek(ctx context.Context, handle, offset int64, whence int) (int64, error) {
	var at struct {
		Position int64 `json:"position"`
	}
	err := a.call(ctx, "guest-file-seek", map[string]any{"handle": handle, "offset": offset, "whence": whence}, &at)
	if err == nil && at.Position < 0 {
		err = nonsense("guest-file-seek")
	}
	return at.Position, err
}
