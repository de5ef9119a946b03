// Package pg is the ground that every module's store stands on: pools that act as the module's own role inside its own schema,
// migrations under a lock, transactions that are retried when PostgreSQL asks for it, and one translation of driver errors.
//
// One schema belongs to one module, and so does the role novacron_<schema>. A pool opened for a schema sees that schema only; PostgreSQL
// itself refuses a query that reaches into another module's. The composition root calls Bootstrap; stores use the rest.
package pg
