// Package tokenfile keeps the tokens of logins in a file of the user's, one entry for each server. The file has mode 0600, its folder 0700.
//
// Processes that run at the same time share it: changes happen under a lock on a file beside it, because a refresh token works once.
package tokenfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// Path is where the file lies: $XDG_CONFIG_HOME/novacron/credentials.json, below ~/.config where that is not set.
func Path() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of your settings: %w", err)
	}
	return filepath.Join(dir, "novacron", "credentials.json"), nil
}

// Store keeps the tokens of one server in a file. It implements apiclient.TokenStore.
type Store struct {
	Path   string
	Server string // the key of the entry: the server's base URL
}

type content struct {
	Servers map[string]apiclient.Tokens `json:"servers"`
}

// Load implements apiclient.TokenStore.
func (s Store) Load(context.Context) (apiclient.Tokens, error) {
	c, err := s.read()
	return c.Servers[s.Server], err
}

// Update implements apiclient.TokenStore.
func (s Store) Update(ctx context.Context, change func(apiclient.Tokens) (apiclient.Tokens, error)) error {
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the tokens: %w", err)
	}
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	c, err := s.read()
	if err != nil {
		return err
	}
	changed, err := change(c.Servers[s.Server])
	if err != nil {
		return err
	}
	if changed == c.Servers[s.Server] {
		return nil
	}
	if changed == (apiclient.Tokens{}) {
		delete(c.Servers, s.Server)
	} else {
		c.Servers[s.Server] = changed
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode tokens: %w", err)
	}
	if err := atomicfile.Write(s.Path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	return nil
}

func (s Store) read() (content, error) {
	c := content{Servers: map[string]apiclient.Tokens{}}
	raw, err := os.ReadFile(s.Path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read tokens: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("read tokens: %s is damaged, remove it and log in again: %w", s.Path, err)
	}
	if c.Servers == nil {
		c.Servers = map[string]apiclient.Tokens{}
	}
	return c, nil
}

// lockPause is the pause between two tries for the lock, which is held for the length of one request at most.
const lockPause = 20 * time.Millisecond

// lock waits for the lock. The lock is on a file of its own, because the one with the tokens is replaced at every change.
func (s Store) lock(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(s.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock tokens: %w", err)
	}
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock tokens: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for the lock on the tokens: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
