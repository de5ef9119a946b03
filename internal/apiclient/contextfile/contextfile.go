// Package contextfile keeps the servers that a person uses, by a name of their own, and which of them is meant where nothing else is said. It
// holds no secret; logins are in the package tokenfile. The file has mode 0600, its folder 0700.
package contextfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// Context is a server, and how it is used.
type Context struct {
	Name   string `json:"name"`
	Server string `json:"server"`            // base URL
	CAFile string `json:"ca_file,omitempty"` // certificates that the server's is checked against; empty: those of the system
	Tenant string `json:"tenant,omitempty"`  // to act in, by name or id; empty: the caller's own
}

// LoginKey is what the logins of a context are kept under: two contexts of one server are two logins.
func (c Context) LoginKey() string { return strings.TrimRight(c.Server, "/") + "#" + c.Name }

// File is what is kept.
type File struct {
	Current  string    `json:"current,omitempty"`
	Contexts []Context `json:"contexts"`
}

// Find gives a context by its name.
func (f File) Find(name string) (Context, bool) {
	i := slices.IndexFunc(f.Contexts, func(c Context) bool { return c.Name == name })
	if i < 0 {
		return Context{}, false
	}
	return f.Contexts[i], true
}

// Set adds a context, or replaces the one of its name.
func (f *File) Set(c Context) {
	if i := slices.IndexFunc(f.Contexts, func(other Context) bool { return other.Name == c.Name }); i >= 0 {
		f.Contexts[i] = c
		return
	}
	f.Contexts = append(f.Contexts, c)
	slices.SortFunc(f.Contexts, func(a, b Context) int { return strings.Compare(a.Name, b.Name) })
}

// Remove takes a context away.
func (f *File) Remove(name string) {
	f.Contexts = slices.DeleteFunc(f.Contexts, func(c Context) bool { return c.Name == name })
	if f.Current == name {
		f.Current = ""
	}
}

// Path is where the file lies: $XDG_CONFIG_HOME/novacron/contexts.json, below ~/.config where that is not set.
func Path() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of your settings: %w", err)
	}
	return filepath.Join(dir, "novacron", "contexts.json"), nil
}

// Read reads the file; where there is none there are no contexts.
func Read(path string) (File, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, fmt.Errorf("read contexts: %w", err)
	}
	var f File
	if err := json.Unmarshal(raw, &f); err != nil {
		return File{}, fmt.Errorf("read contexts: %s is damaged, remove it and add the contexts again: %w", path, err)
	}
	return f, nil
}

// lockPause is the pause between two tries for the lock, which is held for moments.
const lockPause = 10 * time.Millisecond

// Update changes the file. No other Update, of any process, runs meanwhile; where change fails nothing is changed.
func Update(ctx context.Context, path string, change func(*File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of your settings: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock contexts: %w", err)
	}
	defer lock.Close() // which unlocks
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock contexts: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lock on the contexts: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	f, err := Read(path)
	if err != nil {
		return err
	}
	if err := change(&f); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	if err := atomicfile.Write(path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	return nil
}
