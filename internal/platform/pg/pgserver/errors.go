package pgserver

import "github.com/novacron/novacron/internal/platform/errs"

// What can keep the private PostgreSQL from running. None goes away by itself, so none is retryable.
var (
	ErrBinariesMissing = errs.New(errs.Unavailable, "database.binaries_missing",
		"PostgreSQL 15 or later is not installed on this host").
		WithAction("apt-get install postgresql, or set database.url to use a server elsewhere.").WithRetryable(false)
	ErrVersionMismatch = errs.New(errs.Unavailable, "database.version_mismatch",
		"the database folder was made by another major version of PostgreSQL").WithRetryable(false)
	ErrInUse = errs.New(errs.Conflict, "database.data_dir_in_use",
		"another process runs the database in this folder").
		WithAction("Stop the other novacron, or give this one another data folder.")
	ErrOwnerMissing = errs.New(errs.Unavailable, "database.owner_missing",
		"PostgreSQL refuses to run as root, and the user that should own the database does not exist").
		WithAction("apt-get install postgresql creates the user postgres; or run novacron as an unprivileged user.").WithRetryable(false)
	ErrUnreachable = errs.New(errs.Unavailable, "database.data_dir_unreachable",
		"the user that owns the database cannot enter its folder").WithRetryable(false)
	ErrStartFailed = errs.New(errs.Unavailable, "database.start_failed",
		"PostgreSQL does not start").
		WithAction("Read the log that the message names.").WithRetryable(false)
	ErrNotRunning = errs.New(errs.Unavailable, "database.not_running",
		"the private PostgreSQL is not running at the moment").
		WithAction("It is restarted by itself; if this stays, read its log.")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{
		ErrBinariesMissing, ErrVersionMismatch, ErrInUse, ErrOwnerMissing, ErrUnreachable, ErrStartFailed, ErrNotRunning,
	}
}
