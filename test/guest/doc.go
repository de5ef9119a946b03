// Package guest tests the demo guest, deploy/demo-image, on QEMU alone: what the rest of the product shows on it must be true of it.
package guest
