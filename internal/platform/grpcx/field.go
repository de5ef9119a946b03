package grpcx

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/novacron/novacron/internal/platform/errs"
)

// ErrMessage is why a message of another process cannot be read.
var ErrMessage = errs.New(errs.Internal, "internal.bad_message", "a message of another process cannot be read; the processes are of different versions")

// Decoder reads fields of messages and keeps the first mistake.
type Decoder struct{ Err error }

// Fail keeps a mistake.
func (d *Decoder) Fail(err error) {
	if d.Err == nil {
		d.Err = ErrMessage.Wrap(err)
	}
}

// ID reads an id; no bytes are none.
func (d *Decoder) ID(b []byte) uuid.UUID {
	if len(b) == 0 {
		return uuid.Nil
	}
	u, err := uuid.FromBytes(b)
	if err != nil {
		d.Fail(fmt.Errorf("id of %d bytes", len(b)))
	}
	return u
}

// OptionalID reads what OptionalID wrote.
func (d *Decoder) OptionalID(b []byte) *uuid.UUID {
	if len(b) == 0 {
		return nil
	}
	u := d.ID(b)
	return &u
}

// IDs reads a list of ids, which is never nil.
func (d *Decoder) IDs(list [][]byte) []uuid.UUID {
	out := make([]uuid.UUID, len(list))
	for i, b := range list {
		out[i] = d.ID(b)
	}
	return out
}

// ID writes an id; none is no bytes.
func ID(u uuid.UUID) []byte {
	if u == uuid.Nil {
		return nil
	}
	return u[:]
}

// OptionalID writes an id that may be absent.
func OptionalID(u *uuid.UUID) []byte {
	if u == nil {
		return nil
	}
	return u[:]
}

// IDs writes a list of ids.
func IDs(list []uuid.UUID) [][]byte {
	var out [][]byte
	for i := range list {
		out = append(out, list[i][:])
	}
	return out
}

// Text keeps a text that is no UTF-8 from failing in the transport: the other side refuses it by its own rules, for it is changed here.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Moment writes a time that may be absent.
func Moment(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// When reads a time that may be absent.
func When(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// Some gives a list that is not nil.
func Some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
