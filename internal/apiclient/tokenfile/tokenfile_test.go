package tokenfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/apiclient/tokenfile"
)

func put(t *testing.T, s tokenfile.Store, tokens apiclient.Tokens) {
	t.Helper()
	if err := s.Update(t.Context(), func(apiclient.Tokens) (apiclient.Tokens, error) { return tokens, nil }); err != nil {
		t.Fatal(err)
	}
}

func TestPath(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "/settings")
	if p, err := tokenfile.Path(); err != nil || p != "/settings/novacron/credentials.json" {
		t.Errorf("%s, %v", p, err)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "/home/ada")
	if p, err := tokenfile.Path(); err != nil || p != "/home/ada/.config/novacron/credentials.json" {
		t.Errorf("%s, %v", p, err)
	}
}

func TestServersAreKeptApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "credentials.json")
	a, b := tokenfile.Store{Path: path, Server: "http://a"}, tokenfile.Store{Path: path, Server: "http://b"}
	if got, err := a.Load(t.Context()); err != nil || got != (apiclient.Tokens{}) {
		t.Errorf("an absent file gives %+v, %v", got, err)
	}
	want := apiclient.Tokens{Access: "x", Refresh: "y", Username: "ada", ExpiresAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	put(t, a, want)
	put(t, b, apiclient.Tokens{Access: "z"})
	if got, err := a.Load(t.Context()); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	put(t, b, apiclient.Tokens{})
	if got, _ := b.Load(t.Context()); got != (apiclient.Tokens{}) {
		t.Errorf("%+v is left", got)
	}
	if err := a.Update(t.Context(), func(apiclient.Tokens) (apiclient.Tokens, error) { return apiclient.Tokens{}, os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if got, _ := a.Load(t.Context()); got != want {
		t.Errorf("a failed change left %+v", got)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestUpdatesDoNotLoseEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.json")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // a store of its own each, as processes have
			s := tokenfile.Store{Path: path, Server: "http://a"}
			for range 5 {
				err := s.Update(t.Context(), func(old apiclient.Tokens) (apiclient.Tokens, error) {
					n, _ := strconv.Atoi(old.Access)
					return apiclient.Tokens{Access: strconv.Itoa(n + 1)}, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := (tokenfile.Store{Path: path, Server: "http://a"}).Load(t.Context()); err != nil || got.Access != "40" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLockIsNotWaitedForForEver(t *testing.T) {
	s := tokenfile.Store{Path: filepath.Join(t.TempDir(), "credentials.json"), Server: "http://a"}
	_ = s.Update(t.Context(), func(old apiclient.Tokens) (apiclient.Tokens, error) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.Update(ctx, func(apiclient.Tokens) (apiclient.Tokens, error) {
			t.Error("two updates at the same time")
			return old, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return old, nil
	})
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := tokenfile.Store{Path: path, Server: "http://a"}
	if _, err := s.Load(t.Context()); err == nil {
		t.Error("a damaged file was read")
	}
}
