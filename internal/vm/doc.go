// Package vm is the contract of the vm module: virtual machines, their images and their networks.
//
// The module owns the life of a virtual machine from the reservation of its place to the last byte of its disk. Its controller role
// keeps the truth in PostgreSQL and runs every slow change as a durable operation; its node role, on each hypervisor, does what
// the controller asks over the bus. This package is a leaf: other modules import it, it imports none of them.
package vm
