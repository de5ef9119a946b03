// Package libvirt drives QEMU through libvirtd. It is the only package that imports the libvirt binding.
//
// Invariants: every XML document is made from typed structs; every object of the library is freed on the goroutine that got it;
// a connection is closed only after the last call on it has returned, because the C library does not guard against that.
// Nothing of the binding appears in an exported name.
//
// Built with the tag libvirt_dlopen, the binary needs libvirt only when Open is called.
package libvirt
