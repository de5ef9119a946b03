package vm

import "github.com/novacron/novacron/internal/platform/errs"

// The errors of the contract.
var (
	ErrNotFound     = errs.New(errs.NotFound, "vm.not_found", "there is no such virtual machine")
	ErrNameTaken    = errs.New(errs.Conflict, "vm.name_taken", "a virtual machine of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrWrongState   = errs.New(errs.Conflict, "vm.wrong_state", "the virtual machine is in a state in which this is not possible")
	ErrInvalid      = errs.New(errs.Invalid, "vm.invalid", "the virtual machine cannot be made as asked")
	ErrVanished     = errs.New(errs.Conflict, "vm.vanished", "the virtual machine was removed behind NovaCron's back").WithAction("Start it to define it anew, or delete it.")
	ErrDiskLost     = errs.New(errs.Conflict, "vm.disk_lost", "a disk of the virtual machine is gone from the node").WithAction("Restore it from a backup, or delete the virtual machine.")
	ErrNoConsoleLog = errs.New(errs.NotFound, "vm.no_console_log", "the virtual machine has not written to its console yet")

	ErrImageNotFound = errs.New(errs.NotFound, "image.not_found", "there is no such image")
	ErrImageInUse    = errs.New(errs.Conflict, "image.in_use", "virtual machines were made from the image").WithAction("Delete them first.")
	ErrImageFailed   = errs.New(errs.Conflict, "image.failed", "the import of the image failed").WithAction("Upload it again.")
	ErrImageBusy     = errs.New(errs.Unavailable, "image.importing", "the image is still being imported")
	ErrImageInvalid  = errs.New(errs.Invalid, "image.invalid", "the upload is not a usable disk image")
	ErrImageRefused  = errs.New(errs.Invalid, "image.refused", "the image refers to files outside itself").WithAction("Flatten it with 'qemu-img convert' first.")
	ErrImageTooLarge = errs.New(errs.TooLarge, "image.too_large", "the image is larger than this installation accepts")
	ErrImageChecksum = errs.New(errs.Invalid, "image.checksum_mismatch", "the bytes that arrived do not match the checksum")

	ErrNetworkNotFound = errs.New(errs.NotFound, "network.not_found", "there is no such network")
	ErrNetworkTaken    = errs.New(errs.Conflict, "network.name_taken", "a network of this name exists in the tenant")
	ErrNetworkOverlap  = errs.New(errs.Conflict, "network.cidr_overlap", "the address range overlaps with another network")
	ErrNetworkInUse    = errs.New(errs.Conflict, "network.in_use", "virtual machines are connected to the network").WithAction("Delete them first.")
	ErrNetworkInvalid  = errs.New(errs.Invalid, "network.invalid", "the network cannot be made as asked")
	ErrNetworkBusy     = errs.New(errs.Locked, "network.locked", "an operation is at work on the network")
	ErrNoAddressRange  = errs.New(errs.Conflict, "network.pool_exhausted", "no address range is free for the tenant's default network").WithAction("Create a network with a range of your choice and name it when creating the virtual machine.")
)

// Errors lists the contract's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrNotFound, ErrNameTaken, ErrWrongState, ErrInvalid, ErrVanished, ErrDiskLost, ErrNoConsoleLog,
		ErrImageNotFound, ErrImageInUse, ErrImageFailed, ErrImageBusy, ErrImageInvalid, ErrImageRefused, ErrImageTooLarge, ErrImageChecksum,
		ErrNetworkNotFound, ErrNetworkTaken, ErrNetworkOverlap, ErrNetworkInUse, ErrNetworkInvalid, ErrNetworkBusy, ErrNoAddressRange}
}
