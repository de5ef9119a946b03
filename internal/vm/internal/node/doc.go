// Package node is the node role of the vm module: it owns the hypervisor of one host, carries out the controller's commands, and
// tells the controller what it sees. It needs the bus and no database.
//
// Invariants:
//   - one command at a time works on a virtual machine, and none with an older generation than one that came before it, also after
//     a restart (fence, journal);
//   - every command is idempotent; a crash at any moment leaves nothing that the same command, sent again, cannot finish;
//   - each change of a state is told once, in order, until it is acknowledged (report, watch);
//   - only what carries the installation's id is ever touched.
//
// The vm module starts it; nothing else uses it.
package node
