// Package outbox makes sure that an event is told if, and only if, the change that it tells about was committed.
//
// A store writes the event as a row in the same transaction as the change. The module's Relay publishes the rows in order, after the
// commit, and marks them. The rows stay for a while, so that a subscriber that has lost messages or was away asks for them again.
//
// # Promises
//
//   - Every committed event is published at least once, in the order of seq for each source; consumers drop what they have seen by
//     event id or seq. A relay that takes over from another may repeat what that one published last.
//   - seq is a cursor that skips nothing: whoever sees an event sees every committed event with a lower seq. Numbers may be missing
//     (a rolled back transaction), but never appear later.
//
// # Cost
//
// PostgreSQL hands out identity values when a row is inserted, not when it is committed, so that a reader could pass a number whose
// transaction is still under way. Write therefore takes an advisory lock that its transaction holds until it ends: transactions of one
// schema that write events commit one after the other. Call Write last in the transaction. That keeps the lock short, and it avoids the
// deadlock of two transactions that take the lock and a row in opposite order (which pg.InTx would retry).
//
// # Setup
//
// The module's migration creates the table with the text of Schema, copied as it is: migrations are history and must not change with
// this package.
package outbox
