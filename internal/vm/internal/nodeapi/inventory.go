package nodeapi

import "github.com/google/uuid"

// VerbInventory asks a node for all that it holds of the installation.
const VerbInventory Verb = "node.inventory" // Empty -> Inventory

// Inventory is what a node holds. What carries the mark of another installation is counted and no more.
type Inventory struct {
	Domains   []uuid.UUID    `json:"domains"`
	Folders   []FolderOfDisk `json:"folders"`
	Volumes   []uuid.UUID    `json:"volumes"`
	Networks  []uuid.UUID    `json:"networks"`
	Unmanaged int            `json:"unmanaged"`
}

// FolderOfDisk is the folder of a virtual machine's files.
type FolderOfDisk struct {
	VMID uuid.UUID `json:"vm_id"`
	Root bool      `json:"root"` // the root disk is there
}
