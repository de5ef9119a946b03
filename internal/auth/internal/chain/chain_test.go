package chain_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth/internal/chain"
	"github.com/novacron/novacron/internal/bus/event"
)

// row is a row as it is stored.
type row struct {
	event.AuditEntry
	text string
}

// rows makes a chain.
func rows(t testing.TB, n int) []row {
	t.Helper()
	list := make([]row, n)
	hash := chain.Genesis()
	for i := range list {
		e := event.AuditEntry{Audit: event.Audit{ID: uuid.New(), Time: time.Unix(1_800_000_000+int64(i), 0).UTC(), Module: "vm", Node: "kvm-01", Action: "vm.create",
			UserID: uuid.New(), Username: "ada", Result: event.AuditSuccess, Status: 201, Details: map[string]string{"fields": "name", "a": "b"}},
			Seq: int64(i + 1), Source: "vm", PrevHash: hash}
		text, err := chain.Details(e.Details)
		if err != nil {
			t.Fatal(err)
		}
		e.Hash = chain.Hash(e, text)
		hash = e.Hash
		list[i] = row{e, text}
	}
	return list
}

func check(list []row, checkpoints ...chain.Checkpoint) (*chain.Check, *chain.Broken) {
	c := chain.NewCheck(chain.Head{Hash: chain.Genesis()}, checkpoints)
	for _, r := range list {
		if broken := c.Next(r.AuditEntry, r.text); broken != nil {
			return c, broken
		}
	}
	return c, nil
}

// rehash makes hashes fit again from a row on, as one who knows how would.
func rehash(list []row, from int) {
	for i := from; i < len(list); i++ {
		list[i].Seq = int64(i + 1)
		list[i].PrevHash = chain.Genesis()
		if i > 0 {
			list[i].PrevHash = list[i-1].Hash
		}
		list[i].Hash = chain.Hash(list[i].AuditEntry, list[i].text)
	}
}

func TestCheckFindsWhatWasDone(t *testing.T) {
	for name, c := range map[string]struct {
		do   func([]row) []row
		want int64 // the first row that is not as it should be; 0: none
	}{
		"nothing":       {func(l []row) []row { return l }, 0},
		"removed":       {func(l []row) []row { return slices.Delete(l, 4, 5) }, 5},
		"first removed": {func(l []row) []row { return l[1:] }, 1},
		"inserted":      {func(l []row) []row { return slices.Insert(l, 4, l[8]) }, 5},
		"twice":         {func(l []row) []row { return slices.Insert(l, 4, l[3]) }, 4},
		"moved":         {func(l []row) []row { l[3], l[6] = l[6], l[3]; return l }, 4},
		"moved with their numbers": {func(l []row) []row {
			l[3], l[4] = l[4], l[3]
			l[3].Seq, l[4].Seq = 4, 5
			return l
		}, 4},
		"details": {func(l []row) []row { l[6].text = `{"a":"c","fields":"name"}`; return l }, 7},
		"changed and its hash made to fit": {func(l []row) []row {
			l[2].Username = "eve"
			l[2].Hash = chain.Hash(l[2].AuditEntry, l[2].text)
			return l
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			_, broken := check(c.do(rows(t, 10)))
			switch {
			case c.want == 0 && broken != nil:
				t.Errorf("broken at %d: %s", broken.Seq, broken.Reason)
			case c.want != 0 && (broken == nil || broken.Seq != c.want):
				t.Errorf("got %+v, want row %d", broken, c.want)
			}
		})
	}
}

// Every field counts: a change of any of them breaks the chain at its row.
func TestEveryFieldIsCovered(t *testing.T) {
	fields := reflect.VisibleFields(reflect.TypeFor[event.AuditEntry]())
	changed := 0
	for _, f := range fields {
		if f.Anonymous || f.Name == "Hash" || f.Name == "Details" { // the stored text of the details is what counts
			continue
		}
		list := rows(t, 3)
		v := reflect.ValueOf(&list[1].AuditEntry).Elem().FieldByIndex(f.Index)
		switch x := v.Addr().Interface().(type) {
		case *string:
			*x += "x"
		case *int:
			*x++
		case *int64:
			*x++
		case *time.Time:
			*x = x.Add(time.Microsecond)
		case *uuid.UUID:
			x[15] ^= 1
		case *event.Hash:
			*x = bytes.Repeat([]byte{7}, chain.Size)
		default:
			t.Fatalf("field %s has a type that this test does not know", f.Name)
		}
		changed++
		if _, broken := check(list); broken == nil {
			t.Errorf("a change of %s is not noticed", f.Name)
		}
	}
	if changed < 24 {
		t.Errorf("only %d fields", changed)
	}
}

// Moving text from one field to the next gives another encoding.
func TestFieldsDoNotRunIntoEachOther(t *testing.T) {
	a, b := rows(t, 1)[0], rows(t, 1)[0]
	b.AuditEntry = a.AuditEntry
	a.Action, a.Permission = "vm.create", "x"
	b.Action, b.Permission = "vm.creat", "ex"
	if bytes.Equal(chain.Hash(a.AuditEntry, a.text), chain.Hash(b.AuditEntry, b.text)) {
		t.Error("two rows have one hash")
	}
}

func TestSignedHeads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	s, err := chain.OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := rows(t, 10)
	head := chain.Head{Seq: 6, Hash: list[5].Hash}
	signed := s.Sign(chain.KindHead, head, time.Now())
	if c, broken := check(list, signed); broken != nil || c.Verified != 10 {
		t.Fatalf("got %+v after %d", broken, c.Verified)
	}
	// Who changes a row and makes all hashes fit again is caught by the signature.
	list[1].Username = "eve"
	rehash(list, 1)
	if _, broken := check(list); broken != nil {
		t.Fatalf("the forger did not do well: %+v", broken)
	}
	if _, broken := check(list, signed); broken == nil || broken.Seq != 6 {
		t.Errorf("got %+v", broken)
	}

	for name, change := range map[string]func(*chain.Checkpoint){
		"seq":       func(c *chain.Checkpoint) { c.Seq++ },
		"kind":      func(c *chain.Checkpoint) { c.Kind = chain.KindPrune },
		"hash":      func(c *chain.Checkpoint) { c.Hash = chain.Genesis() },
		"time":      func(c *chain.Checkpoint) { c.CreatedAt = c.CreatedAt.Add(time.Second) },
		"signature": func(c *chain.Checkpoint) { c.Signature = bytes.Repeat([]byte{1}, 64) },
		"key":       func(c *chain.Checkpoint) { c.KeyID = "0000000000000000" },
	} {
		c := signed
		if change(&c); s.Valid(c) {
			t.Errorf("a checkpoint with another %s is taken for good", name)
		}
	}
	if err := s.Note(signed); err != nil {
		t.Fatal(err)
	}
	again, err := chain.OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	noted, err := again.Noted()
	if err != nil || noted == nil || !again.Valid(*noted) || noted.Seq != 6 || again.KeyID() != s.KeyID() {
		t.Errorf("after opening again: %+v, %v", noted, err)
	}
	info, err := os.Stat(filepath.Join(dir, "signing-key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
}

func TestSignerRefusesOtherKeys(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{"no key": "PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": "audit key"} {
		if err := os.WriteFile(filepath.Join(dir, "signing-key.pem"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := chain.OpenSigner(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	r := rows(b, 1)[0]
	for b.Loop() {
		chain.Hash(r.AuditEntry, r.text)
	}
}
