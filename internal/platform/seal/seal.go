// Package seal encrypts small secrets that have to be kept in the database, with a key that is kept outside of it: a copy of the database alone
// tells nobody anything.
//
// The cipher is XChaCha20-Poly1305 with a random nonce. What a secret belongs to is bound to it, so that nobody who writes to the database
// can move one to another row. Modules that share a data folder share the key.
package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// FileName is the key's file in the folder of keys.
const FileName = "secrets.key"

// A sealed secret is a version, the first bytes of the key's hash, a nonce, and the ciphertext.
const (
	version  = 1
	keyMark  = 8
	overhead = 1 + keyMark + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// The failures of Open.
var (
	ErrKey     = errors.New("it was sealed with another key: " + FileName + " has been lost or replaced")
	ErrDamaged = errors.New("the sealed secret is damaged or belongs to something else")
	errClosed  = errors.New("the key has not been read yet")
)

// Box seals and opens with the key of a folder. It holds no key until Open.
type Box struct {
	path string
	key  atomic.Pointer[[chacha20poly1305.KeySize]byte]
}

// NewBox makes a Box for a folder.
func NewBox(dir string) *Box { return &Box{path: filepath.Join(dir, FileName)} }

// Open reads the key, and makes it where there is none. Of several processes that do so at once one makes it.
func (b *Box) Open() error {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return fmt.Errorf("make the key folder: %w", err)
	}
	key, err := readKey(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		var fresh [chacha20poly1305.KeySize]byte
		_, _ = rand.Read(fresh[:]) // never fails: crypto/rand ends the process first
		if err := atomicfile.Create(b.path, []byte(hex.EncodeToString(fresh[:])+"\n"), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keep the key of secrets: %w", err)
		}
		key, err = readKey(b.path)
	}
	if err != nil {
		return fmt.Errorf("read the key of secrets, %s: %w", b.path, err)
	}
	b.key.Store(key)
	return nil
}

func readKey(path string) (*[chacha20poly1305.KeySize]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 1024 {
		return nil, errors.New("is not a plain small file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read or write it (mode %04o): run chmod 600 on it", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != chacha20poly1305.KeySize {
		return nil, errors.New("does not hold 32 bytes in hexadecimal digits")
	}
	return (*[chacha20poly1305.KeySize]byte)(raw), nil
}

func mark(key *[chacha20poly1305.KeySize]byte) []byte {
	sum := sha256.Sum256(append([]byte("novacron key mark\x00"), key[:]...))
	return sum[:keyMark]
}

// Seal encrypts a secret that belongs to owner, which is not secret and is asked for again by Unseal.
func (b *Box) Seal(secret []byte, owner string) ([]byte, error) {
	key := b.key.Load()
	if key == nil {
		return nil, errClosed
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce)
	out := append([]byte{version}, mark(key)...)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, secret, []byte(owner)), nil
}

// Unseal gives a secret back. It fails with ErrKey or ErrDamaged.
func (b *Box) Unseal(sealed []byte, owner string) ([]byte, error) {
	key := b.key.Load()
	if key == nil {
		return nil, errClosed
	}
	if len(sealed) < overhead || sealed[0] != version {
		return nil, ErrDamaged
	}
	if !bytes.Equal(sealed[1:1+keyMark], mark(key)) {
		return nil, ErrKey
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	rest := sealed[1+keyMark:]
	secret, err := aead.Open(nil, rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:], []byte(owner))
	if err != nil {
		return nil, ErrDamaged
	}
	return secret, nil
}
