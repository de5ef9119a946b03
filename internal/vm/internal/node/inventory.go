package node

import (
	"context"

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
		if d.InstallationID == c.InstallationID {
			list.Domains = append(list.Domains, d.VMID)
		} else {
			list.Unmanaged++
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
	list.Volumes, err = n.store.VolumeIDs()
	return list, err
}
