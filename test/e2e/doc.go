// Package e2e tests the built binary from outside: through its REST API and its command line, on a real libvirt with real guests, and
// with kills of the whole process. virsh is the outside truth.
package e2e
