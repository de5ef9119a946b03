package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The errors that any database access may end with.
var (
	// ErrUnavailable says that the server could not be reached or broke off. When it comes from a commit, the transaction may
	// have taken effect all the same.
	ErrUnavailable = errs.New(errs.Unavailable, "database.unavailable", "the database is not available at the moment").
			WithAction("Try again in a moment; if this stays, see /ready and the log of PostgreSQL.")
	ErrDeadline = errs.New(errs.Deadline, "database.deadline", "the database did not answer in time").
			WithAction("Try again in a moment.")
	ErrContention = errs.New(errs.Unavailable, "database.contention", "too many changes at the same time kept getting in each other's way").
			WithAction("Try again in a moment.")
	ErrPrivileges = errs.New(errs.Unavailable, "database.privileges",
		"the database login may not create what a module needs").WithRetryable(false)
	ErrMigration = errs.New(errs.Internal, "database.migration", "a module's tables could not be brought up to date").
			WithAction("Nothing of the failed migration was kept. Report it with the log.")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrUnavailable, ErrDeadline, ErrContention, ErrPrivileges, ErrMigration}
}

// SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeNotNull             = "23502"
	codeForeignKey          = "23503"
	codeUnique              = "23505"
	codeCheck               = "23514"
	codeExclusion           = "23P01"
	codeReadOnly            = "25006"
	codeSerialization       = "40001"
	codeDeadlock            = "40P01"
	codeInsufficientPrivs   = "42501"
	codeDuplicateObject     = "42710"
	codeQueryCanceled       = "57014"
	codeInternal            = "XX000"
	classConnection         = "08"
	classResources          = "53" // too many connections, out of memory, disk full
	classOperatorIntervened = "57P"
	classSystem             = "58" // I/O error and the like
)

// Map translates what went wrong between us and the server into ErrUnavailable and ErrDeadline. Every other error, and one that has
// been translated already, stays as it is; so does a cancelled context, which is the caller's own doing.
func Map(err error) error {
	var known *errs.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDeadline.Wrap(err)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case e.Code == codeQueryCanceled: // statement_timeout; a cancelled context was recognised above
			return ErrDeadline.Wrap(err)
		case e.Code == codeReadOnly, // a standby, after a failover
			strings.HasPrefix(e.Code, classConnection), strings.HasPrefix(e.Code, classResources),
			strings.HasPrefix(e.Code, classOperatorIntervened), strings.HasPrefix(e.Code, classSystem):
			return ErrUnavailable.Wrap(err)
		case e.Code == codeSerialization, e.Code == codeDeadlock:
			return ErrContention.Wrap(err)
		}
		return err
	}
	if brokenConnection(err) {
		return ErrUnavailable.Wrap(err)
	}
	return err
}

// brokenConnection recognises a connection that could not be made or that ended.
func brokenConnection(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err)
}

// ViolationKind says which sort of constraint refused a row.
type ViolationKind string

// The sorts of constraint. NoViolation stands for any other error.
const (
	NoViolation ViolationKind = ""
	Unique      ViolationKind = "unique"
	ForeignKey  ViolationKind = "foreign_key"
	Check       ViolationKind = "check"
	NotNull     ViolationKind = "not_null"
	Exclusion   ViolationKind = "exclusion"
)

// Violation names the constraint that err says was violated, and its sort. A not-null constraint has no name of its own; the column
// stands for it.
func Violation(err error) (constraint string, kind ViolationKind) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return "", NoViolation
	}
	switch e.Code {
	case codeUnique:
		return e.ConstraintName, Unique
	case codeForeignKey:
		return e.ConstraintName, ForeignKey
	case codeCheck:
		return e.ConstraintName, Check
	case codeNotNull:
		return e.ColumnName, NotNull
	case codeExclusion:
		return e.ConstraintName, Exclusion
	}
	return "", NoViolation
}

// NotFound tells whether err means that a query found no row.
func NotFound(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func hasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}
