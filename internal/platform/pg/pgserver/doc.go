// Package pgserver runs a private PostgreSQL from the distribution's binaries, so that one host needs no database
// administrator. The composition root starts it first and stops it last.
//
// # Layout
//
//	<DataDir>/              0711, owned by the process that runs novacron
//	<DataDir>/lock          held with flock(2) while a Server runs: one server for each folder
//	<DataDir>/novacron.conf our settings, rewritten at every start; ALTER SYSTEM overrides them
//	<DataDir>/log/          0700, postgresql.log and one older file, both of bounded size
//	<DataDir>/cluster/      0700, the cluster, owned by the unprivileged owner
//	<DataDir>/run/          0700, the socket, owned by the unprivileged owner
//
// Where <DataDir>/run would make the socket's path longer than the 107 bytes that a unix socket address can hold, the
// socket lives in a 0700 folder below /run or the folder for temporary files instead. URL always names the right one.
//
// # Access
//
// The server listens on the unix socket only and trusts whoever can reach it. The 0700 folder around the socket admits the owner
// and root, who could read the cluster's files anyway, and nobody else.
//
// # Life and death
//
//   - When the postmaster dies it is started again, with a growing pause between attempts.
//   - When the process that runs the Server dies, also by SIGKILL, the kernel sends the postmaster SIGINT, which is its
//     orderly fast shutdown (PR_SET_PDEATHSIG, bound to the thread that started it, which therefore lives as long as the
//     postmaster).
//   - Start waits for what is left of an earlier run to go, and pushes when it does not. Two Servers never share a folder.
//   - A cluster is created in a folder of its own and renamed into place when it is complete and on disk.
package pgserver
