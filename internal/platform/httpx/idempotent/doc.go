// Package idempotent makes POST requests safe to repeat: a request with an Idempotency-Key header is carried out once, and its
// answer is given again to every repetition.
//
// Middleware wraps a module's handler, inside of what authenticates, because keys belong to a principal and a route. Requests without
// the header, and those of anonymous callers, pass untouched. An answer is remembered before it is sent, so that whoever has seen one
// gets it again; a process that dies in between leaves a lock that runs out, and the handler then finds by Key what it began.
//
// Not remembered are answers that a repetition may change (status 500 and above, 401, 403, 408, 423, 425, 429, and every problem that
// calls itself retryable), answers that hold secrets (Cache-Control: no-store, or a cookie), and answers above 1 MiB.
//
// The package knows no database: a module hands it a Store, for example that of platform/pg/idempotency.
package idempotent
