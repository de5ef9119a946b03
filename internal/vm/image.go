package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Image is what virtual machines are made from: a disk, the disc of an installation, or a kernel with its initrd.
type Image struct {
	ID               uuid.UUID       `json:"id"`
	Name             string          `json:"name" example:"debian-12"`
	Status           ImageStatus     `json:"status" enum:"uploading,importing,ready,failed"`
	Kind             ImageKind       `json:"kind" enum:"disk,iso,kernel,initrd" example:"disk"`
	Format           string          `json:"format" doc:"Format of the upload, as its header says; empty until it is known. Disks are kept as qcow2, everything else as it is." example:"qcow2"`
	SizeBytes        int64           `json:"size_bytes" doc:"Of the stored file; 0 while importing."`
	VirtualSizeBytes int64           `json:"virtual_size_bytes" doc:"Of the disk that a guest sees."`
	SHA256           string          `json:"sha256,omitempty" doc:"Of the bytes that came, in hexadecimal."`
	Visibility       ImageVisibility `json:"visibility" enum:"private,shared,public" doc:"Who may use it: its tenant, the tenants of shared_with too, or all."`
	SharedWith       []uuid.UUID     `json:"shared_with" nullable:"false" doc:"Tenants that may use it while visibility is shared. Only the image's own tenant sees them."`
	SourceURL        string          `json:"source_url,omitempty" doc:"Where it was imported from. Only the image's own tenant sees it."`
	ReceivedBytes    int64           `json:"received_bytes,omitempty" doc:"Of an upload in parts: how much has arrived."`
	DeclaredBytes    int64           `json:"declared_bytes,omitempty" doc:"Of an upload in parts: how much there is."`
	OwnerID          uuid.UUID       `json:"owner_id"`
	TenantID         uuid.UUID       `json:"tenant_id"`
	Version          int64           `json:"version" doc:"Grows with every change of name or visibility."`
	OperationID      *uuid.UUID      `json:"operation_id,omitempty" doc:"The import at work, if any."`
	Error            *errs.Problem   `json:"error,omitempty" doc:"Why the import failed."`
	CreatedAt        time.Time       `json:"created_at"`
	UpdatedAt        time.Time       `json:"updated_at"`
}

// ImageStatus tells whether an image can be used.
type ImageStatus string

// The statuses of an image.
const (
	ImageUploading ImageStatus = "uploading" // parts of it have yet to come
	ImageImporting ImageStatus = "importing"
	ImageReady     ImageStatus = "ready"
	ImageFailed    ImageStatus = "failed"
)

// ImageKind tells what an image is good for.
type ImageKind string

// The kinds of images.
const (
	ImageDisk   ImageKind = "disk"
	ImageISO    ImageKind = "iso"
	ImageKernel ImageKind = "kernel"
	ImageInitrd ImageKind = "initrd"
)

// ImageVisibility tells who may use an image beside its own tenant.
type ImageVisibility string

// The visibilities.
const (
	ImagePrivate ImageVisibility = "private"
	ImageShared  ImageVisibility = "shared" // with the tenants that it names
	ImagePublic  ImageVisibility = "public"
)

// CDROM is the drive of a virtual machine. Once it has one it keeps it, so that discs go in and out while it runs.
type CDROM struct {
	Drive   bool       `json:"drive" doc:"It has a drive."`
	ImageID *uuid.UUID `json:"image_id,omitempty" format:"uuid" doc:"The ISO image in the drive."`
}

// DirectBoot starts a guest with a kernel of the host's choice instead of what its disk begins with.
type DirectBoot struct {
	KernelImageID *uuid.UUID `json:"kernel_image_id,omitempty" format:"uuid" doc:"Image of kind kernel; none: boot from disks, disc or network."`
	InitrdImageID *uuid.UUID `json:"initrd_image_id,omitempty" format:"uuid" doc:"Image of kind initrd."`
	CommandLine   string     `json:"command_line,omitempty" maxLength:"2047" doc:"What the kernel is told." example:"root=/dev/vda1 console=ttyS0"`
}

// Equal tells whether two say the same.
func (d DirectBoot) Equal(o DirectBoot) bool {
	return sameID(d.KernelImageID, o.KernelImageID) && sameID(d.InitrdImageID, o.InitrdImageID) && d.CommandLine == o.CommandLine
}

// Equal tells whether two say the same.
func (c CDROM) Equal(o CDROM) bool { return c.Drive == o.Drive && sameID(c.ImageID, o.ImageID) }

func sameID(a, b *uuid.UUID) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// The errors of images.
var (
	ErrImageNotFound     = errs.New(errs.NotFound, "image.not_found", "there is no such image")
	ErrImageInUse        = errs.New(errs.Conflict, "image.in_use", "virtual machines or volumes use the image, or were made from it").WithAction("Delete them first, or take the image out of their drives.")
	ErrImageFailed       = errs.New(errs.Conflict, "image.failed", "the import of the image failed").WithAction("Upload it again.")
	ErrImageBusy         = errs.New(errs.Unavailable, "image.importing", "the image is still being imported")
	ErrImageInvalid      = errs.New(errs.Invalid, "image.invalid", "the upload is not a usable disk image")
	ErrImageRefused      = errs.New(errs.Invalid, "image.refused", "the image refers to files outside itself").WithAction("Flatten it with 'qemu-img convert' first.")
	ErrImageTooLarge     = errs.New(errs.TooLarge, "image.too_large", "the image is larger than this installation accepts")
	ErrImageChecksum     = errs.New(errs.Invalid, "image.checksum_mismatch", "the bytes that arrived do not match the checksum")
	ErrImageKind         = errs.New(errs.Invalid, "image.wrong_kind", "the image is of another kind than is needed here")
	ErrImageOffset       = errs.New(errs.Conflict, "image.wrong_offset", "the part does not begin where the upload ends").WithAction("Ask with HEAD how far the upload is, and go on from there.")
	ErrImageUploadBusy   = errs.New(errs.Conflict, "image.upload_busy", "another part of the upload is on its way").WithRetryable(true)
	ErrImageNotUploading = errs.New(errs.Conflict, "image.not_uploading", "the image is not waiting for parts of an upload")
	ErrImageUploading    = errs.New(errs.Conflict, "image.uploading", "parts of the image have yet to be uploaded")
	ErrImageVersion      = errs.New(errs.Precondition, "image.version_mismatch", "the image has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrImageURL          = errs.New(errs.Invalid, "image.url_refused", "images are not fetched from this address").WithAction("Use an address that vm.image_import allows, or upload the file.")
	ErrImageFetch        = errs.New(errs.Conflict, "image.fetch_failed", "the image could not be fetched")
)

func imageErrors() []*errs.Error {
	return []*errs.Error{ErrImageNotFound, ErrImageInUse, ErrImageFailed, ErrImageBusy, ErrImageInvalid, ErrImageRefused, ErrImageTooLarge, ErrImageChecksum,
		ErrImageKind, ErrImageOffset, ErrImageUploadBusy, ErrImageNotUploading, ErrImageUploading, ErrImageVersion, ErrImageURL, ErrImageFetch, ErrCDROMHeld}
}

// ErrCDROMHeld says that a guest keeps its drive closed.
var ErrCDROMHeld = errs.New(errs.Conflict, "cdrom.held_by_guest", "the guest keeps the drive closed").
	WithAction("Unmount the disc in the guest and try again, or stop the virtual machine first.")
