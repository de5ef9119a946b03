// Package apikey makes API keys and takes them apart.
//
// A key is nck_NAME_SECRETSUM: twelve characters that name the key, 43 that are its secret, and six that are a checksum of all before
// them. The mark lets people and secret scanners recognise a key; the checksum tells a mistyped or invented key from a real one without
// asking anybody, also offline. The name is not secret and finds the key; it stays when the secret is rotated.
//
// The secret is 43 of 62 characters by chance, 256 bits, so nobody can guess it and a slow or salted hash would protect nothing: keys are
// kept as the SHA-256 of their whole text, which costs less than a microsecond at every use. Only the auth module's service uses it.
package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"

	"github.com/novacron/novacron/internal/auth"
)

const (
	nameAlphabet   = "abcdefghijklmnopqrstuvwxyz234567"
	secretAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	nameLength   = 12
	secretLength = 43 // 62^43 > 2^256
	sumLength    = 6  // 62^6 > 2^32
	prefixLength = len(auth.APIKeyMark) + nameLength

	// Length is that of every key.
	Length = prefixLength + 1 + secretLength + sumLength
)

// Hash is what a key is known by.
type Hash = [sha256.Size]byte

// Key is a new key.
type Key struct {
	Text   string // the whole key
	Prefix string // what may be shown of it
}

// New makes a key with a name of its own.
func New() Key { return Renew(auth.APIKeyMark + pick(nameAlphabet, nameLength)) }

// Renew makes a key of the same name with another secret.
func Renew(prefix string) Key {
	text := prefix + "_" + pick(secretAlphabet, secretLength)
	return Key{Text: text + checksum(text), Prefix: prefix}
}

// Parse gives what a key begins with, up to its secret; false where the text cannot be a key. It says nothing about whether there is one.
func Parse(text string) (prefix string, ok bool) {
	if len(text) != Length || !strings.HasPrefix(text, auth.APIKeyMark) || text[prefixLength] != '_' {
		return "", false
	}
	if !only(text[len(auth.APIKeyMark):prefixLength], nameAlphabet) || !only(text[prefixLength+1:], secretAlphabet) {
		return "", false
	}
	body := text[:Length-sumLength]
	if checksum(body) != text[Length-sumLength:] { // not a secret: anyone can compute it
		return "", false
	}
	return text[:prefixLength], true
}

// HashOf gives what the key is known by.
func HashOf(text string) Hash { return sha256.Sum256([]byte(text)) }

// checksum is CRC-32 (IEEE 802.3) in base 62.
func checksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var digits [sumLength]byte
	for i := sumLength - 1; i >= 0; i-- {
		digits[i] = secretAlphabet[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

func only(s, alphabet string) bool {
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

// pick draws characters, each as likely as any other: bytes beyond the last whole multiple of the alphabet are thrown away.
func pick(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	var random [64]byte
	for {
		_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process first
		for _, b := range random {
			if int(b) >= limit {
				continue
			}
			if out = append(out, alphabet[int(b)%len(alphabet)]); len(out) == n {
				return string(out)
			}
		}
	}
}
