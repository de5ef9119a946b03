package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Snapshots are internal ones of qcow2. libvirt itself takes them of running guests with memory only, so disks alone are left to QEMU,
// which makes them all at one moment in a transaction.
// Source: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html, "transaction", "blockdev-snapshot-internal-sync".

// qmp gives QEMU one command and decodes what it returns.
func qmp(dom *libvirt.Domain, command string, arguments, out any) error {
	text, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return fmt.Errorf("encode %s: %w", command, err)
	}
	answer, err := dom.QemuMonitorCommand(string(text), libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	if err != nil {
		return err
	}
	result := struct {
		Return any
		Error  *struct{ Class, Desc string }
	}{Return: out}
	if err := json.Unmarshal([]byte(answer), &result); err != nil {
		return fmt.Errorf("read the answer to %s: %w", command, err)
	}
	if result.Error != nil {
		return nodeapi.ErrHypervisorRefused.WithMessage("QEMU refused %s: %s", command, result.Error.Desc)
	}
	return nil
}

// blockNode is a disk as QEMU knows it.
type blockNode struct {
	name      string
	snapshots []string
}

// blockNodes finds the disks of a running guest by their paths. One that is missing is an error.
func blockNodes(dom *libvirt.Domain, paths []string) ([]blockNode, error) {
	var devices []struct {
		Inserted *struct {
			Node  string `json:"node-name"`
			File  string `json:"file"`
			Image struct {
				Snapshots []struct{ Name string }
			}
		}
	}
	if err := qmp(dom, "query-block", struct{}{}, &devices); err != nil {
		return nil, err
	}
	nodes := make([]blockNode, len(paths))
	for _, device := range devices {
		if device.Inserted == nil {
			continue
		}
		at := slices.Index(paths, device.Inserted.File)
		if at < 0 {
			continue
		}
		nodes[at].name = device.Inserted.Node
		for _, s := range device.Inserted.Image.Snapshots {
			nodes[at].snapshots = append(nodes[at].snapshots, s.Name)
		}
	}
	for i, n := range nodes {
		if n.name == "" {
			return nil, nodeapi.ErrHypervisorRefused.WithMessage("the guest has no disk %s", paths[i])
		}
	}
	return nodes, nil
}

type blockSnapshot struct {
	Device string `json:"device"`
	Name   string `json:"name"`
}

// dropFrom removes a snapshot from the disks of a running guest that hold it.
func dropFrom(dom *libvirt.Domain, nodes []blockNode, name string) error {
	for _, n := range nodes {
		if !slices.Contains(n.snapshots, name) {
			continue
		}
		if err := qmp(dom, "blockdev-snapshot-delete-internal-sync", blockSnapshot{n.name, name}, nil); err != nil {
			return err
		}
	}
	return nil
}

// SnapshotDisks implements driver.Driver.
func (d *Driver) SnapshotDisks(ctx context.Context, vm uuid.UUID, name string, paths []string) error {
	return d.change(ctx, "take the snapshot", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			nodes, err := blockNodes(dom, paths)
			if err != nil {
				return err
			}
			holding := 0
			for _, n := range nodes {
				if slices.Contains(n.snapshots, name) {
					holding++
				}
			}
			if holding == len(nodes) {
				return nil
			}
			if err := dropFrom(dom, nodes, name); err != nil { // some but not all: of another moment
				return err
			}
			type action struct {
				Type string        `json:"type"`
				Data blockSnapshot `json:"data"`
			}
			actions := make([]action, len(nodes))
			for i, n := range nodes {
				actions[i] = action{"blockdev-snapshot-internal-sync", blockSnapshot{n.name, name}}
			}
			return qmp(dom, "transaction", map[string]any{"actions": actions}, nil)
		})
	})
}

// SnapshotMemory implements driver.Driver.
func (d *Driver) SnapshotMemory(ctx context.Context, vm uuid.UUID, name string) (record string, err error) {
	err = d.change(ctx, "take the snapshot", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			snapshot, err := dom.SnapshotLookupByName(name, 0)
			if isCode(err, libvirt.ERR_NO_DOMAIN_SNAPSHOT) {
				// Of a domain that is off libvirt would take the disks alone.
				if state, _, err := dom.GetState(); err != nil || isOff(state) {
					return errors.Join(err, nodeapi.ErrHypervisorRefused.WithMessage("a guest that is off has no memory to save"))
				}
				xml, marshalErr := (&libvirtxml.DomainSnapshot{Name: name}).Marshal()
				if marshalErr != nil {
					return fmt.Errorf("encode the snapshot: %w", marshalErr)
				}
				snapshot, err = dom.CreateSnapshotXML(xml, 0)
			}
			if err != nil {
				return err
			}
			defer snapshot.Free() //nolint:errcheck // fails only on a nil pointer
			record, err = snapshot.GetXMLDesc(libvirt.DOMAIN_SNAPSHOT_XML_SECURE)
			return err
		})
	})
	return record, err
}

// DropSnapshot implements driver.Driver.
func (d *Driver) DropSnapshot(ctx context.Context, vm uuid.UUID, name string, paths []string) error {
	return d.change(ctx, "drop the snapshot", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			snapshot, err := dom.SnapshotLookupByName(name, 0)
			switch {
			case err == nil:
				err = snapshot.Delete(libvirt.DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
				_ = snapshot.Free()
				if err != nil {
					return err
				}
			case !isCode(err, libvirt.ERR_NO_DOMAIN_SNAPSHOT):
				return err
			}
			state, _, err := dom.GetState()
			if err != nil || isOff(state) {
				return err
			}
			nodes, err := blockNodes(dom, paths)
			if err != nil {
				return err
			}
			return dropFrom(dom, nodes, name)
		})
	})
}

// RevertMemory implements driver.Driver.
func (d *Driver) RevertMemory(ctx context.Context, vm uuid.UUID, name, record string) error {
	return d.change(ctx, "go back to the snapshot", func(c *libvirt.Connect) error {
		defer d.forget(vm) // the definition is that of the snapshot
		return domain(c, vm, func(dom *libvirt.Domain) error {
			snapshot, err := dom.SnapshotLookupByName(name, 0)
			if isCode(err, libvirt.ERR_NO_DOMAIN_SNAPSHOT) && record != "" { // forgotten with a domain that was undefined behind our back
				snapshot, err = dom.CreateSnapshotXML(record, libvirt.DOMAIN_SNAPSHOT_CREATE_REDEFINE)
			}
			if isCode(err, libvirt.ERR_NO_DOMAIN_SNAPSHOT) {
				return nodeapi.ErrSnapshotLost
			}
			if err != nil {
				return err
			}
			defer snapshot.Free() //nolint:errcheck // fails only on a nil pointer
			return snapshot.RevertToSnapshot(0)
		})
	})
}
