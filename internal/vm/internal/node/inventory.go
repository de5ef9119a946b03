package node

import (
	"context"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// rootDisk is the name of the disk that every virtual machine has.
const rootDisk = "root"

// inventory tells all that the node holds of the installation. It changes nothing and waits for no command at work.
func (n *Node) inventory(ctx context.Context, c nodeapi.Command, _ nodeapi.Empty) (nodeapi.Inventory, error) {
	var list nodeapi.Inventory
	domains, err := n.cfg.Driver.List(ctx)
	if err != nil {
		return list, err
	}
	for _, d := range domains {
		if d.InstallationID != c.InstallationID {
			list.Unmanaged++
			continue
		}
		list.Domains = append(list.Domains, d.VMID)
		if holdsMemory(d) {
			list.On = append(list.On, d.VMID)
		}
		changes, err := n.edited(ctx, d.VMID)
		if err != nil {
			return list, err
		}
		if changes != "" {
			list.Edited = append(list.Edited, nodeapi.EditedDefinition{VMID: d.VMID, Changes: changes})
		}
	}
	networks, err := n.cfg.Driver.ListNetworks(ctx)
	if err != nil {
		return list, err
	}
	for _, network := range networks {
		if network.InstallationID == c.InstallationID {
			list.Networks = append(list.Networks, network.ID)
		} else {
			list.Unmanaged++
		}
	}
	folders, err := n.store.VMs()
	if err != nil {
		return list, err
	}
	for _, vm := range folders {
		there, err := n.store.HasDisk(vm, rootDisk)
		if err != nil {
			return list, err
		}
		list.Folders = append(list.Folders, nodeapi.FolderOfDisk{VMID: vm, Root: there})
	}
	if list.Volumes, err = n.store.VolumeIDs(); err != nil {
		return list, err
	}
	list.Quarantined, err = n.store.Quarantined()
	return list, err
}

// holdsMemory tells whether powering a domain off would lose anything.
func holdsMemory(d driver.DomainState) bool { return isOn(d.Observed) || d.Saved }
