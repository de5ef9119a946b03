// Package pgtest gives tests a real PostgreSQL. It starts one private cluster for each test binary, at the first need, and makes every
// test a database of its own by cloning a template that holds the migrations of the modules the test names.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestStore(t *testing.T) {
//		d := pgtest.New(t, pgtest.Schema{Name: "vm", Migrations: migrations})
//		store := store.New(d.Pool("vm"))
//
// A test that stops or kills the server needs a Cluster of its own. Only tests import this package.
package pgtest
