// Package operation is the one engine for slow changes. An operation is a durable row with steps; it is executed as a saga: every
// step is idempotent, names its undo, and is recorded before the next begins, so that after a crash at any moment the operation is
// either finished or undone.
//
// River delivers jobs that say "advance operation X" and nothing more. Who works on an operation is decided by the operation's own
// lease: a compare-and-swap on owner, epoch and expiry, renewed while the work goes on. A runner that loses its lease changes nothing
// more, because each of its writes names the epoch that it holds. A sweeper finds operations whose lease ran out and has them
// delivered again.
//
// The engine's tables live in the schema of the module that owns it: the module copies schema.sql into a migration of its own
// and calls Migrate for River's. With rows of its own a module hooks into the transactions that begin and end an operation, and must lock its own
// row before the engine locks the operation's, which is the order in which the engine calls it.
package operation
