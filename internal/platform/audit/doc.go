// Package audit makes a record of every call that changes something and of every refusal: who, from where, what, and how it ended. The HTTP kit
// uses it for every route, so that a handler has nothing to do; it may add what only it knows with Target, Actor and Detail.
//
// # Promises
//
// Before a call is carried out its intent is written to the module's own database; after it, one transaction removes the intent and writes the
// record to the module's outbox. The intent does not wait for the disk: it stands before the call's own changes in the same write-ahead log, so
// that changes which have reached the disk have their intent before them. So whatever kills the process or the database server: a change
// that is committed has its record. If the process dies in between, another one (or the same after its start) turns the intent into a record
// whose result is "unknown". Where the intent cannot be written, the call is refused.
//
// Refusals change nothing. They are queued in memory and written right after, and only a bounded number of them a minute for each address or
// user; the rest are counted, and the counts are recorded. A crash may lose what is queued, a fraction of a second.
package audit
