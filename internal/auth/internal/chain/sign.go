package chain

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// The files of a Signer.
const (
	keyFile  = "signing-key.pem"
	headFile = "head.json"
)

// Signer signs heads with an Ed25519 key in a folder of its own, and keeps the newest one there.
type Signer struct {
	dir string
	key ed25519.PrivateKey
	id  string
}

// OpenSigner reads the key in dir, or makes one.
func OpenSigner(dir string) (*Signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the audit key: %w", err)
	}
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = makeKey(path); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the audit key %s is not PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the audit key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the audit key %s is not an Ed25519 key", path)
	}
	sum := sha256.Sum256(key[ed25519.SeedSize:]) // its public half
	return &Signer{dir: dir, key: key, id: hex.EncodeToString(sum[:8])}, nil
}

func makeKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the audit key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the audit key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := atomicfile.Write(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("keep the audit key: %w", err)
	}
	return text, nil
}

// KeyID names the key.
func (s *Signer) KeyID() string { return s.id }

// Sign makes a checkpoint.
func (s *Signer) Sign(kind string, head Head, now time.Time) Checkpoint {
	c := Checkpoint{Head: head, Kind: kind, CreatedAt: now.UTC().Truncate(time.Microsecond), KeyID: s.id}
	c.Signature = ed25519.Sign(s.key, c.message())
	return c
}

// Valid tells whether a checkpoint was signed with this key.
func (s *Signer) Valid(c Checkpoint) bool {
	public, ok := s.key.Public().(ed25519.PublicKey)
	return ok && c.KeyID == s.id && ed25519.Verify(public, c.message(), c.Signature)
}

// message is what is signed.
func (c Checkpoint) message() []byte {
	b := []byte("novacron-audit-checkpoint-1\x00" + c.Kind + "\x00")
	b = binary.BigEndian.AppendUint64(b, uint64(c.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(c.CreatedAt.UnixMicro()))
	return append(b, c.Hash...)
}

// Noted gives the newest checkpoint that Note has kept; nil: none.
func (s *Signer) Noted() (*Checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, headFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the head of the audit trail: %w", err)
	}
	var c Checkpoint
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read the head of the audit trail in %s: %w", filepath.Join(s.dir, headFile), err)
	}
	return &c, nil
}

// Note keeps a checkpoint outside of the database.
func (s *Signer) Note(c Checkpoint) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the head of the audit trail: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(s.dir, headFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the head of the audit trail: %w", err)
	}
	return nil
}
