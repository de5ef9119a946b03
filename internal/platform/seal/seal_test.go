package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func open(t *testing.T, dir string) *Box {
	t.Helper()
	b := NewBox(dir)
	if err := b.Open(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealedComesBack(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	first, err := b.Seal([]byte("secret"), "user 1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Seal([]byte("secret"), "user 1")
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("the same secret is sealed alike twice: %v", err)
	}
	if bytes.Contains(first, []byte("secret")) {
		t.Error("the secret shows")
	}
	again := open(t, dir) // another process, or the same one after a restart
	if got, err := again.Unseal(first, "user 1"); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := again.Unseal(first, "user 2"); !errors.Is(err, ErrDamaged) {
		t.Errorf("moved to another row: %v", err)
	}
	for i := range first {
		bad := bytes.Clone(first)
		bad[i] ^= 1
		if _, err := b.Unseal(bad, "user 1"); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKey) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for n := range first {
		if _, err := b.Unseal(first[:n], "user 1"); err == nil {
			t.Errorf("cut to %d bytes it opens", n)
		}
	}
}

func TestAnotherKeySaysSo(t *testing.T) {
	dir := t.TempDir()
	sealed, err := open(t, dir).Seal([]byte("secret"), "user 1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Unseal(sealed, "user 1"); !errors.Is(err, ErrKey) {
		t.Errorf("%v, want %v", err, ErrKey)
	}
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	boxes := make([]*Box, 8)
	var wg sync.WaitGroup
	for i := range boxes {
		boxes[i] = NewBox(dir)
		wg.Go(func() {
			if err := boxes[i].Open(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sealed, err := boxes[0].Seal([]byte("x"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if _, err := b.Unseal(sealed, ""); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestBadKeyFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"short":    func(path string) error { return os.WriteFile(path, []byte("abcd"), 0o600) },
		"open":     func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("ab"), 32), 0o644) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"empty":    func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		dir := t.TempDir()
		if err := make(filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		if err := NewBox(dir).Open(); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := NewBox(t.TempDir()).Seal(nil, ""); err == nil {
		t.Error("sealed without a key")
	}
}
