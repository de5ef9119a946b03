// Package chain makes and checks the chain of hashes over audit records, and the signatures that anchor it. It knows neither database nor network.
//
// A row's hash is the SHA-256 of a canonical encoding of everything in the row, the hash of the row before included. Whoever changes, removes,
// adds or moves a row has to change all hashes behind it, up to the newest; and that one is signed now and then (see Signer) with a key that the
// database does not hold, and noted in a file outside of the database, so that cutting off the end is noticed too.
//
// What it cannot do: keep whoever controls this host, and so the signing key, from making a new chain. Against that, keep a head elsewhere: it is in
// the log, in the answer of every verification, and on audit.events.
package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/novacron/novacron/internal/bus/event"
)

// Size is the length of a hash.
const Size = sha256.Size

// Genesis gives what the first row has as the hash before it.
func Genesis() []byte { return make([]byte, Size) }

// encoding is the version of the canonical encoding; another encoding gets another text.
const encoding = "novacron-audit-1"

// Details gives the canonical text of a record's details: a JSON object with its keys in order.
func Details(details map[string]string) (string, error) {
	if len(details) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(details) // sorts the keys
	if err != nil {
		return "", fmt.Errorf("encode details: %w", err)
	}
	return string(text), nil
}

// Hash gives the hash of a row; details is its text as Details makes it. Every field is preceded by its length, so no two rows have one encoding.
func Hash(e event.AuditEntry, details string) []byte {
	h := sha256.New()
	var size [8]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		_, _ = h.Write(size[:]) // a hash takes every write
		_, _ = h.Write(b)
	}
	number := func(n int64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		put(b[:])
	}
	put([]byte(encoding))
	put(e.PrevHash)
	number(e.Seq)
	put(e.ID[:])
	number(e.Time.UnixMicro())
	for _, s := range []string{e.Source, e.Module, e.Node, e.Action, e.Permission, e.Method, e.TargetKind, e.TargetID} {
		put([]byte(s))
	}
	put(e.UserID[:])
	put([]byte(e.Username))
	put(e.APIKeyID[:])
	put(e.SessionID[:])
	put(e.TenantID[:])
	put(e.HomeTenantID[:])
	for _, s := range []string{e.Address, e.UserAgent, e.Result} {
		put([]byte(s))
	}
	number(int64(e.Status))
	for _, s := range []string{e.Code, e.RequestID, e.TraceID} {
		put([]byte(s))
	}
	number(e.Count)
	put([]byte(details))
	return h.Sum(nil)
}

// Head is a place in the chain.
type Head struct {
	Seq  int64  `json:"seq"` // 0: before the first row
	Hash []byte `json:"hash"`
}

// Checkpoint is a signed Head.
type Checkpoint struct {
	Head
	Kind      string    `json:"kind"` // one of the constants below
	CreatedAt time.Time `json:"created_at"`
	KeyID     string    `json:"key_id"`
	Signature []byte    `json:"signature"`
}

// The kinds of checkpoints.
const (
	KindHead  = "head"  // the newest row of that moment
	KindPrune = "prune" // the last row that was removed because of its age: the chain begins behind it
)

// Broken says where the chain is broken, and how.
type Broken struct {
	Seq    int64  `json:"seq"` // of the first row that is not as it should be, or is not there
	Reason string `json:"reason"`
}

// Check follows the chain row by row.
type Check struct {
	At       Head                   // the last row that was seen
	pending  map[int64][]Checkpoint // not met yet
	Verified int64
}

// NewCheck begins behind a place that is trusted. checkpoints are held against the rows that they name.
func NewCheck(from Head, checkpoints []Checkpoint) *Check {
	c := &Check{At: from, pending: map[int64][]Checkpoint{}}
	for _, cp := range checkpoints {
		c.Expect(cp)
	}
	return c
}

// Expect adds a checkpoint.
func (c *Check) Expect(cp Checkpoint) { c.pending[cp.Seq] = append(c.pending[cp.Seq], cp) }

// Next takes the next row, with its details as they are stored. It gives nil where the row is right.
func (c *Check) Next(e event.AuditEntry, details string) *Broken {
	want := c.At.Seq + 1
	switch {
	case e.Seq > want:
		return &Broken{want, fmt.Sprintf("the row is missing; the next one there is has number %d", e.Seq)}
	case e.Seq < want:
		return &Broken{e.Seq, "the row comes twice"}
	case !bytes.Equal(e.PrevHash, c.At.Hash):
		return &Broken{e.Seq, "the row does not follow from the one before: one of them was replaced"}
	case !bytes.Equal(Hash(e, details), e.Hash):
		return &Broken{e.Seq, "the row was changed: its content does not give its hash"}
	}
	for _, cp := range c.pending[e.Seq] {
		if !bytes.Equal(cp.Hash, e.Hash) {
			return &Broken{e.Seq, "the row is not the one that was signed on " + cp.CreatedAt.UTC().Format(time.RFC3339) + ": the chain was made anew"}
		}
	}
	delete(c.pending, e.Seq)
	c.At = Head{Seq: e.Seq, Hash: e.Hash}
	c.Verified++
	return nil
}
