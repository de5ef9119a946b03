// Package operation is the one engine for slow changes. An operation is a durable row with steps; it is carried out as a saga: every
// step is idempotent, names its undo, and is recorded before the next begins, so that after a crash at any moment the operation is
// either finished or undone.
//
// # Who works on an operation
//
// River delivers jobs that say "advance operation X" and nothing more. Who works on it is decided by the operation's own lease: a
// compare-and-swap on owner, epoch and expiry, renewed while the work goes on. A runner that loses its lease has its context canceled
// before another can take over, and changes nothing more, because each of its writes names the epoch that it holds. A sweeper finds
// operations whose lease ran out and has them delivered again; so a process that dies is replaced within Lease + Sweep. Stale jobs lose
// the swap and leave. Times of leases are the database's; only how long a lease may last is measured here.
//
// # What a module does
//
// The engine's table lives in the schema of the module that owns it: the module copies Schema into a migration of its own and calls
// Migrate for River's tables. With rows of its own it hooks into the transactions that begin an operation (Create, Supersede) and
// end it (Saga.OnEnd). It locks its own row before the engine locks the operation's: Supersede after that lock, and OnEnd, which the
// engine calls before it writes the operation. No step's work happens inside a transaction of the engine.
//
// A step that finds that a newer intent has overtaken its operation may return any error: once Supersede has committed, no write of
// the run succeeds, neither that of a step nor that of the undo.
package operation
