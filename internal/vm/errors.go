package vm

import "github.com/novacron/novacron/internal/platform/errs"

// The errors of the contract.
var (
	ErrNotFound     = errs.New(errs.NotFound, "vm.not_found", "there is no such virtual machine")
	ErrNameTaken    = errs.New(errs.Conflict, "vm.name_taken", "a virtual machine of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrWrongState   = errs.New(errs.Conflict, "vm.wrong_state", "the virtual machine is in a state in which this is not possible")
	ErrInvalid      = errs.New(errs.Invalid, "vm.invalid", "the virtual machine cannot be made as asked")
	ErrVanished     = errs.New(errs.Conflict, "vm.vanished", "the virtual machine was removed behind NovaCron's back").WithAction("Start it to define it anew, or delete it.")
	ErrDiskLost     = errs.New(errs.Conflict, "vm.disk_lost", "a disk of the virtual machine is gone from the node").WithAction("Put the file back on the node, from a backup for example, or delete the virtual machine.")
	ErrProtected    = errs.New(errs.Conflict, "vm.protected", "the virtual machine is protected from deletion").WithAction("Remove the protection first: PATCH it with delete_protection false.")
	ErrVersion      = errs.New(errs.Precondition, "vm.version_mismatch", "the virtual machine has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrNoOtherNode  = errs.New(errs.Conflict, "vm.no_other_node", "there is no other node that the virtual machine could move to").WithAction("It stays where it is: nodes do not hand machines to each other yet.")
	ErrOnNode       = errs.New(errs.Conflict, "vm.already_on_node", "the virtual machine is on that node already")
	ErrNoConsoleLog = errs.New(errs.NotFound, "vm.no_console_log", "the virtual machine has not written to its console yet")
)

// The errors of storage.
var (
	ErrLocked           = errs.New(errs.Locked, "vm.locked", "an operation is at work on the virtual machine").WithRetryable(true).WithAction("Wait for the operation, or cancel it.")
	ErrVolumeNotFound   = errs.New(errs.NotFound, "volume.not_found", "there is no such volume")
	ErrVolumeTaken      = errs.New(errs.Conflict, "volume.name_taken", "a volume of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrVolumeInvalid    = errs.New(errs.Invalid, "volume.invalid", "the volume cannot be made as asked")
	ErrVolumeInUse      = errs.New(errs.Conflict, "volume.in_use", "the volume is attached to a virtual machine").WithAction("Detach it first.")
	ErrVolumeDetached   = errs.New(errs.Conflict, "volume.not_attached", "the volume is not attached to the virtual machine")
	ErrVolumeElsewhere  = errs.New(errs.Conflict, "volume.other_node", "the volume is on another node than the virtual machine").WithAction("Create a volume for this virtual machine with vm_id, or use one on its node.")
	ErrVolumeHeld       = errs.New(errs.Conflict, "volume.held_by_guest", "the guest did not let go of the disk").WithAction("Unmount it in the guest and try again, or stop the virtual machine first.")
	ErrVolumeSnapshots  = errs.New(errs.Conflict, "volume.in_snapshots", "snapshots of the virtual machine hold the volume").WithAction("Delete those snapshots first.")
	ErrVolumeBusy       = errs.New(errs.Locked, "volume.locked", "an operation is at work on the volume").WithRetryable(true).WithAction("Wait for the operation, or cancel it.")
	ErrVolumeNotReady   = errs.New(errs.Conflict, "volume.not_ready", "the volume is being made or deleted")
	ErrVolumeShrink     = errs.New(errs.Invalid, "disk.shrink", "a disk can grow but never shrink: what lies beyond the new end would be lost")
	ErrVolumeVersion    = errs.New(errs.Precondition, "volume.version_mismatch", "the volume has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrDiskNotFound     = errs.New(errs.NotFound, "disk.not_found", "the virtual machine has no such disk")
	ErrTooManyDisks     = errs.New(errs.Conflict, "disk.too_many", "the virtual machine has as many disks as it can have")
	ErrPoolNotFound     = errs.New(errs.NotFound, "storage_pool.not_found", "there is no such storage pool")
	ErrSnapshotNotFound = errs.New(errs.NotFound, "snapshot.not_found", "there is no such snapshot")
	ErrSnapshotTaken    = errs.New(errs.Conflict, "snapshot.name_taken", "the virtual machine has a snapshot of this name").WithAction("Choose another name.")
	ErrSnapshotNotReady = errs.New(errs.Conflict, "snapshot.not_ready", "the snapshot was not finished")
	ErrSnapshotConfig   = errs.New(errs.Conflict, "snapshot.configuration_changed", "the virtual machine is another one than when the snapshot was taken")
	ErrSnapshotRaw      = errs.New(errs.Conflict, "snapshot.unsupported_disk", "a disk of the virtual machine cannot be held in a snapshot").WithAction("Detach the volumes of format raw, or copy their content to volumes of format qcow2.")
	ErrSnapshotMemory   = errs.New(errs.Conflict, "snapshot.no_memory", "there is no memory to save: the virtual machine does not run").WithAction("Start it first, or take the disks alone.")
	ErrSnapshotTooMany  = errs.New(errs.Conflict, "snapshot.too_many", "the virtual machine has as many snapshots as it can have").WithAction("Delete those that are not needed.")
	ErrNotFrozen        = errs.New(errs.Conflict, "snapshot.not_frozen", "the guest agent did not hold the guest's file systems").WithAction("Check that qemu-guest-agent runs in the guest, or take the snapshot without holding them.")
)

// Errors lists the contract's errors for the reference.
func Errors() []*errs.Error {
	return append([]*errs.Error{ErrNotFound, ErrNameTaken, ErrWrongState, ErrInvalid, ErrVanished, ErrDiskLost, ErrProtected, ErrVersion, ErrNoOtherNode, ErrOnNode, ErrNoConsoleLog,
		ErrLocked, ErrVolumeNotFound, ErrVolumeTaken, ErrVolumeInvalid, ErrVolumeInUse, ErrVolumeDetached, ErrVolumeElsewhere, ErrVolumeHeld,
		ErrVolumeSnapshots, ErrVolumeBusy, ErrVolumeNotReady, ErrVolumeShrink, ErrVolumeVersion, ErrDiskNotFound, ErrTooManyDisks, ErrPoolNotFound,
		ErrSnapshotNotFound, ErrSnapshotTaken, ErrSnapshotNotReady, ErrSnapshotConfig, ErrSnapshotRaw, ErrSnapshotMemory, ErrSnapshotTooMany, ErrNotFrozen}, append(append(append(imageErrors(), networkErrors()...), guestErrors()...), append(append(catalogErrors(), eventErrors()...), append(append(cloneErrors(), rescueErrors()...), driftErrors()...)...)...)...)
}
