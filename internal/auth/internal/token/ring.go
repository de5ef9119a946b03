// Package token makes and checks access tokens: RS256 JSON Web Tokens, signed with keys that live as files in the data folder.
//
// Nothing but RS256 is ever accepted, whatever a token's header says, and only with a key of ours that the header names.
// Only the auth module's service uses it.
package token

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

const (
	keyBits    = 2048 // NIST SP 800-57 part 1 rev. 5, table 2: 112 bits of security, the least that is acceptable
	rescanGap  = time.Second
	keySuffix  = ".pem"
	pemType    = "PRIVATE KEY" // PKCS #8
	lockName   = ".lock"
	maxKeyFile = 64 << 10
)

// kidForm is what a key id, which is also a file name, may look like.
var kidForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

type keySet struct {
	public  map[string]*rsa.PublicKey
	private map[string]*rsa.PrivateKey
	ids     []string // newest first: ids are UUIDv7, so the greatest
	jwks    JWKS
}

// Ring holds the signing keys of a folder, one file <kid>.pem each. The plan says which one signs, all verify: a key that was put there by
// another process, or by a rotation, is found when a token names it.
type Ring struct {
	dir  string
	plan Plan
	now  func() time.Time
	keys atomic.Pointer[keySet]

	mu       sync.Mutex // guards scanned, and makes rescans one at a time
	scanned  time.Time
	distrust func(error) // told of a rescan that failed
}

// NewRing makes a Ring of the folder. It holds no key until Open. A rescan that fails later is told to warn, and the keys known so far stay.
func NewRing(dir string, plan Plan, now func() time.Time, warn func(error)) *Ring {
	r := &Ring{dir: dir, plan: plan, now: now, distrust: warn}
	r.keys.Store(&keySet{jwks: JWKS{Keys: []JWK{}}})
	return r
}

// Open reads the keys, and makes the folder and a first key where there is none. A lock on the folder keeps two starting processes from
// making a key each.
func (r *Ring) Open() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make the key folder: %w", err)
	}
	unlock, err := lockDir(r.dir)
	if err != nil {
		return err
	}
	defer unlock()
	set, err := readKeys(r.dir)
	if err == nil && set == nil {
		if err = createKey(r.dir, r.now()); err == nil {
			set, err = readKeys(r.dir)
		}
	}
	if err != nil {
		return err
	}
	if set == nil {
		return fmt.Errorf("the signing key that was just made in %s is gone", r.dir)
	}
	r.keys.Store(set)
	return nil
}

// Public gives the key that a token names, or nil.
func (r *Ring) Public(kid string) *rsa.PublicKey {
	if key := r.keys.Load().public[kid]; key != nil {
		return key
	}
	if !kidForm.MatchString(kid) {
		return nil
	}
	r.rescan()
	return r.keys.Load().public[kid]
}

// JWKS gives the public keys. The answer must not be changed.
func (r *Ring) JWKS() JWKS { return r.keys.Load().jwks }

// signingKey gives the key that signs now; the zero one before Open.
func (r *Ring) signingKey() signingKey {
	set, now := r.keys.Load(), r.now()
	for i, kid := range set.ids {
		if i == len(set.ids)-1 || !born(kid).Add(r.plan.PublishDelay).After(now) {
			return signingKey{id: kid, private: set.private[kid]}
		}
	}
	return signingKey{}
}

// rescan reads the folder again, at most once per rescanGap, because anybody can name unknown keys.
func (r *Ring) rescan() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.scanned) < rescanGap {
		return
	}
	r.scanned = time.Now()
	if err := r.load(); err != nil {
		r.distrust(err)
	}
}

// readKeys reads all keys of a folder; nil means that there is none.
func readKeys(dir string) (*keySet, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	var keys []signingKey
	for _, e := range entries {
		kid, isKey := strings.CutSuffix(e.Name(), keySuffix)
		if !isKey || !kidForm.MatchString(kid) {
			continue
		}
		private, err := readKey(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", filepath.Join(dir, e.Name()), err)
		}
		keys = append(keys, signingKey{id: kid, private: private})
	}
	if len(keys) == 0 {
		return nil, nil
	}
	slices.SortFunc(keys, func(a, b signingKey) int { return cmp.Compare(b.id, a.id) })
	set := &keySet{public: make(map[string]*rsa.PublicKey, len(keys)), private: make(map[string]*rsa.PrivateKey, len(keys))}
	for _, k := range keys {
		set.public[k.id], set.private[k.id] = &k.private.PublicKey, k.private
		set.ids = append(set.ids, k.id)
	}
	set.jwks = describe(keys)
	return set, nil
}

func readKey(path string) (*rsa.PrivateKey, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, errors.New("is not a plain small file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read or write it (mode %04o): if nobody has, run chmod 600 on it, else delete it", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, errors.New("holds no PKCS #8 private key in PEM form")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	key, isRSA := parsed.(*rsa.PrivateKey)
	if !isRSA || key.N.BitLen() < keyBits {
		return nil, fmt.Errorf("is not an RSA key of at least %d bits", keyBits)
	}
	if guessable(key.N) {
		return nil, errors.New("can be guessed from its public half (CVE-2017-15361); delete it")
	}
	return key, nil
}

// createKey makes a key. It is in the folder whole or not at all, also after a crash.
func createKey(dir string, now time.Time) error {
	id, err := keyID(now)
	if err != nil {
		return fmt.Errorf("make key id: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("generate signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode signing key: %w", err)
	}
	path := filepath.Join(dir, id.String()+keySuffix)
	if err := atomicfile.Write(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("keep signing key: %w", err)
	}
	return nil
}

// keyID makes a UUID of version 7 for a moment (RFC 9562, section 5.7): the key's id says when it was made.
func keyID(now time.Time) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, err
	}
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id, nil
}

// lockDir takes the folder's lock; the kernel gives it up with the process.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, fs.FileMode(0o600))
	if err != nil {
		return nil, fmt.Errorf("open the lock of the key folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the key folder: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil // nothing was written through it
}
