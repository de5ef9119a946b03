// Package topology runs the modules of a process: it knows which module needs which, refuses needs that nobody meets and needs that go in
// a circle, starts modules after what they need and stops them before it, each under a deadline, and ends the run when one of them fails.
//
// It is generic: it knows no module by name. The composition root declares Nodes, resolves them to a Graph, builds the modules in the
// graph's order and hands both to New. Nothing else calls it.
//
// A Runtime lives once: new → starting → running → stopping → stopped. Stop is valid in every state, also twice and also while Start
// still runs; a Runtime that was stopped does not start again.
package topology
