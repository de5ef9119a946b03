package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Flavor is a named size, the same for every tenant. A virtual machine takes its numbers when it is made; what becomes of the flavor later does
// not reach it.
type Flavor struct {
	ID          uuid.UUID `json:"id" format:"uuid"`
	Name        string    `json:"name" doc:"RFC 1123 label, unique in the installation." example:"small"`
	Description string    `json:"description"`
	Resources   Resources `json:"resources"`
	Version     int64     `json:"version" doc:"Grows with every change."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// SSHKeyVersion is the version of every SSH key: none ever changes.
const SSHKeyVersion = 1

// SSHKey is a public key that virtual machines may be made with. A virtual machine takes a copy of it when it is made.
type SSHKey struct {
	ID          uuid.UUID `json:"id" format:"uuid"`
	Name        string    `json:"name" doc:"RFC 1123 label, unique in the tenant." example:"laptop"`
	PublicKey   string    `json:"public_key" doc:"A line as in authorized_keys (sshd(8))." example:"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqp ada@example.org"`
	Type        string    `json:"type" example:"ssh-ed25519"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256, as ssh-keygen -l shows it." example:"SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDsPhOaYPcOOiyCX5M"`
	OwnerID     uuid.UUID `json:"owner_id"`
	TenantID    uuid.UUID `json:"tenant_id"`
	CreatedAt   time.Time `json:"created_at"`
}

// Visibility tells who may see and use an object besides its tenant.
type Visibility string

// The visibilities.
const (
	Private Visibility = "private" // nobody
	Public  Visibility = "public"  // everybody
)

// Template is a form of virtual machines: what a request to create one leaves out is taken from it.
type Template struct {
	ID          uuid.UUID    `json:"id" format:"uuid"`
	Name        string       `json:"name" doc:"RFC 1123 label, unique in the tenant." example:"web"`
	Description string       `json:"description"`
	Visibility  Visibility   `json:"visibility" enum:"private,public"`
	Spec        TemplateSpec `json:"spec"`
	Version     int64        `json:"version" doc:"Grows with every change."`
	OwnerID     *uuid.UUID   `json:"owner_id,omitempty" doc:"Not shown to other tenants."`
	TenantID    *uuid.UUID   `json:"tenant_id,omitempty" doc:"Not shown to other tenants."`
	CreatedAt   time.Time    `json:"created_at"`
	UpdatedAt   time.Time    `json:"updated_at"`
}

// TemplateSpec is what a template gives. A part that is left out is for the request to name.
type TemplateSpec struct {
	HypervisorType   string              `json:"hypervisor_type,omitempty" enum:"kvm" doc:"What runs it."`
	ImageID          *uuid.UUID          `json:"image_id,omitempty" format:"uuid" doc:"Image that the root disk is made from. Who uses the template must be able to read the image."`
	Flavor           string              `json:"flavor,omitempty" maxLength:"63" example:"small"`
	Resources        *TemplateResources  `json:"resources,omitempty" doc:"Override parts of the flavor."`
	Networks         []TemplateInterface `json:"networks,omitempty" maxItems:"8" doc:"One interface on each."`
	SSHKeys          []string            `json:"ssh_keys,omitempty" maxItems:"64" doc:"Public keys; where the template is written, also names and ids of SSH keys."`
	UserData         string              `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user-data, of a kind that cloud-init knows by its beginning."`
	VendorData       string              `json:"vendor_data,omitempty" maxLength:"65536" doc:"cloud-init vendor-data."`
	Tags             map[string]string   `json:"tags,omitempty" maxProperties:"64"`
	DeleteProtection bool                `json:"delete_protection,omitempty"`
	NetworkConfig    string              `json:"network_config,omitempty" maxLength:"65536" doc:"cloud-init network-config, version 1 or 2, as YAML."`
	CDROMImageID     *uuid.UUID          `json:"cdrom_image_id,omitempty" format:"uuid" doc:"ISO image to put into the drive. A request whose image_id is an ISO image has that one in it."`
	DirectBoot       *DirectBoot         `json:"direct_boot,omitempty" doc:"Kernel and initrd to start it with."`
	BootOrder        []string            `json:"boot_order,omitempty" maxItems:"3" doc:"Of 'root', 'cdrom' and 'network', the first first."`
	Hardware
}

// TemplateResources are parts of a size; 0 leaves a part to the flavor or the request.
type TemplateResources struct {
	VCPUs     int   `json:"vcpus,omitempty" minimum:"1" maximum:"1024" example:"1"`
	MemoryMiB int64 `json:"memory_mib,omitempty" minimum:"32" maximum:"16777216" example:"512"`
	DiskGiB   int64 `json:"disk_gib,omitempty" minimum:"1" maximum:"65536" example:"5"`
}

// TemplateInterface is an interface that a template gives.
type TemplateInterface struct {
	NetworkID      *uuid.UUID   `json:"network_id,omitempty" format:"uuid" doc:"None: the default network of the tenant that uses the template."`
	SecurityGroups *[]uuid.UUID `json:"security_groups,omitempty" doc:"None: the tenant's default group."`
	Link           string       `json:"link,omitempty" enum:"up,down"`
	Bandwidth      *Bandwidth   `json:"bandwidth,omitempty"`
}

// The errors of the catalog.
var (
	ErrFlavorNotFound   = errs.New(errs.NotFound, "flavor.not_found", "there is no such flavor")
	ErrFlavorTaken      = errs.New(errs.Conflict, "flavor.name_taken", "a flavor of this name exists").WithAction("Choose another name, or change the other one.")
	ErrFlavorInvalid    = errs.New(errs.Invalid, "flavor.invalid", "the flavor cannot be made as asked")
	ErrFlavorVersion    = errs.New(errs.Precondition, "flavor.version_mismatch", "the flavor has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrSSHKeyNotFound   = errs.New(errs.NotFound, "ssh_key.not_found", "there is no such SSH key")
	ErrSSHKeyTaken      = errs.New(errs.Conflict, "ssh_key.name_taken", "an SSH key of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrSSHKeyInvalid    = errs.New(errs.Invalid, "ssh_key.invalid", "the SSH key cannot be kept as asked")
	ErrSSHKeyVersion    = errs.New(errs.Precondition, "ssh_key.version_mismatch", "the SSH key is not the one that you read").WithAction("Read it again.")
	ErrTemplateNotFound = errs.New(errs.NotFound, "template.not_found", "there is no such template")
	ErrTemplateTaken    = errs.New(errs.Conflict, "template.name_taken", "a template of this name exists in the tenant").WithAction("Choose another name or delete the other one.")
	ErrTemplateInvalid  = errs.New(errs.Invalid, "template.invalid", "the template cannot be made as asked")
	ErrTemplateVersion  = errs.New(errs.Precondition, "template.version_mismatch", "the template has changed since you read it").WithAction("Read it again and repeat the change.")
)

func catalogErrors() []*errs.Error {
	return []*errs.Error{ErrFlavorNotFound, ErrFlavorTaken, ErrFlavorInvalid, ErrFlavorVersion, ErrSSHKeyNotFound, ErrSSHKeyTaken, ErrSSHKeyInvalid, ErrSSHKeyVersion,
		ErrTemplateNotFound, ErrTemplateTaken, ErrTemplateInvalid, ErrTemplateVersion}
}
