package vmgrpc

import (
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc/vmpb"
)

func createRequest(r vm.CreateVMRequest) *vmpb.CreateVMRequest {
	out := &vmpb.CreateVMRequest{
		Name: grpcx.Text(r.Name), HypervisorType: grpcx.Text(r.HypervisorType), TemplateId: grpcx.OptionalID(r.TemplateID), ImageId: grpcx.ID(r.ImageID),
		Flavor: grpcx.Text(r.Flavor), Resources: resources(r.Resources), SshKeys: texts(r.SSHKeys), UserData: grpcx.Text(r.UserData),
		CloudInit: &vmpb.CloudInit{VendorData: grpcx.Text(r.CloudInit.VendorData), NetworkConfig: grpcx.Text(r.CloudInit.NetworkConfig),
			Hostname: grpcx.Text(r.CloudInit.Hostname), PasswordHash: grpcx.Text(r.CloudInit.PasswordHash)},
		Tags: tags(r.Tags), Description: grpcx.Text(r.Description), DeleteProtection: r.DeleteProtection, CdromImageId: grpcx.OptionalID(r.CDROM),
		DirectBoot: directBoot(r.DirectBoot), DiskBoot: r.DiskBoot, BootOrder: texts(r.BootOrder), Stopped: r.Stopped, IdempotencyKey: grpcx.Text(r.IdempotencyKey),
	}
	hardware(r.Hardware, out)
	for _, n := range r.Interfaces {
		nic := &vmpb.InterfaceRequest{NetworkId: grpcx.ID(n.NetworkID), Mac: grpcx.Text(n.MAC), IpAddress: grpcx.Text(n.IPAddress), Down: n.Down,
			Bandwidth: &vmpb.Bandwidth{InKbps: n.Bandwidth.InKbps, OutKbps: n.Bandwidth.OutKbps}}
		if n.SecurityGroups != nil {
			nic.SecurityGroups = &vmpb.Ids{Values: grpcx.IDs(n.SecurityGroups)}
		}
		out.Interfaces = append(out.Interfaces, nic)
	}
	return out
}

// hardware writes what is named of it.
func hardware(h vm.Hardware, out *vmpb.CreateVMRequest) {
	if a := h.Autostart; a != nil {
		out.Autostart = &vmpb.AutostartChange{Enabled: a.Enabled, Order: wide(a.Order), DelaySeconds: wide(a.DelaySeconds)}
	}
	if h.CPU != nil {
		out.Cpu = cpu(*h.CPU)
	}
	if w := h.Watchdog; w != nil {
		out.Watchdog = &vmpb.Watchdog{Model: grpcx.Text(w.Model), Action: grpcx.Text(w.Action)}
	}
	out.IoLimits = limits(h.IOLimits)
}

func wide(n *int) *int64 {
	if n == nil {
		return nil
	}
	w := int64(*n)
	return &w
}

func cpu(c vm.CPU) *vmpb.CPU {
	return &vmpb.CPU{Model: grpcx.Text(c.Model), Sockets: int64(c.Sockets), Cores: int64(c.Cores), Threads: int64(c.Threads)}
}

func limits(list map[string]vm.IOLimits) map[string]*vmpb.IOLimits {
	out := make(map[string]*vmpb.IOLimits, len(list))
	for disk, l := range list {
		out[grpcx.Text(disk)] = &vmpb.IOLimits{ReadIops: l.ReadIOPS, WriteIops: l.WriteIOPS, ReadBytesPerSecond: l.ReadBPS, WriteBytesPerSecond: l.WriteBPS}
	}
	return out
}

func operation(o vm.Operation) *vmpb.Operation {
	return &vmpb.Operation{
		Id: grpcx.ID(o.ID), Kind: o.Kind, TargetId: grpcx.ID(o.TargetID), TenantId: grpcx.ID(o.TenantID), RequestedBy: grpcx.ID(o.RequestedBy),
		Status: string(o.Status), Progress: int64(o.Progress), Error: problem(o.Error), CreatedAt: grpcx.Moment(&o.CreatedAt), EndedAt: grpcx.Moment(o.EndedAt),
	}
}

func machine(m *vm.VM) *vmpb.VM {
	out := &vmpb.VM{
		Id: grpcx.ID(m.ID), Name: m.Name, State: string(m.State), DesiredState: string(m.DesiredState), HypervisorType: m.HypervisorType,
		NodeId: grpcx.OptionalID(m.NodeID), OwnerId: grpcx.ID(m.OwnerID), TenantId: grpcx.ID(m.TenantID), ImageId: grpcx.ID(m.ImageID), Flavor: m.Flavor,
		Resources: resources(m.Resources), Tags: m.Tags, Description: m.Description, Suspended: m.Suspended, ReadyAt: grpcx.Moment(m.ReadyAt),
		Observed: &vmpb.Observed{State: m.Observed.State, Reason: grpcx.Text(m.Observed.Reason), NodeId: grpcx.OptionalID(m.Observed.NodeID),
			At: grpcx.Moment(m.Observed.At)},
		Generation: m.Generation, OperationId: grpcx.OptionalID(m.OperationID), Error: problem(m.Error), Settings: settings(&m.Settings),
		CreatedAt: grpcx.Moment(&m.CreatedAt), UpdatedAt: grpcx.Moment(&m.UpdatedAt),
	}
	for i := range m.Networks {
		out.Networks = append(out.Networks, nic(&m.Networks[i]))
	}
	for _, d := range m.Disks {
		out.Disks = append(out.Disks, &vmpb.Disk{Name: d.Name, VolumeId: grpcx.OptionalID(d.VolumeID), SizeBytes: d.SizeBytes})
	}
	for _, p := range m.Pending {
		out.Pending = append(out.Pending, &vmpb.Pending{Field: p.Field, Active: p.Active})
	}
	for _, c := range m.Conditions {
		out.Conditions = append(out.Conditions, &vmpb.Condition{Type: string(c.Type), Message: grpcx.Text(c.Message), Since: grpcx.Moment(&c.Since)})
	}
	if o := m.Origin; o != nil {
		out.Origin = &vmpb.Origin{VmId: grpcx.ID(o.VMID), SnapshotId: grpcx.OptionalID(o.SnapshotID), Mode: string(o.Mode)}
	}
	if r := m.Rescue; r != nil {
		out.Rescue = &vmpb.Rescue{ImageId: grpcx.ID(r.ImageID), Since: grpcx.Moment(&r.Since)}
	}
	return out
}

func nic(n *vm.Interface) *vmpb.Interface {
	out := &vmpb.Interface{Id: grpcx.ID(n.ID), NetworkId: grpcx.ID(n.NetworkID), Mac: n.MAC, IpAddress: n.IPAddress, Ipv6Address: n.IPv6Address,
		SecurityGroups: grpcx.IDs(n.SecurityGroups), Link: n.Link, OperationId: grpcx.OptionalID(n.OperationID), Addresses: n.Addresses}
	if b := n.Bandwidth; b != nil {
		out.Bandwidth = &vmpb.Bandwidth{InKbps: b.InKbps, OutKbps: b.OutKbps}
	}
	return out
}

func settings(s *vm.Settings) *vmpb.Settings {
	return &vmpb.Settings{
		DeleteProtection: s.DeleteProtection,
		Autostart:        &vmpb.Autostart{Enabled: s.Autostart.Enabled, Order: int64(s.Autostart.Order), DelaySeconds: int64(s.Autostart.DelaySeconds)},
		Cpu:              cpu(s.CPU),
		IoLimits:         limits(s.IOLimits), Watchdog: &vmpb.Watchdog{Model: s.Watchdog.Model, Action: s.Watchdog.Action}, BootOrder: s.BootOrder,
		Cdrom: &vmpb.CDROM{Drive: s.CDROM.Drive, ImageId: grpcx.OptionalID(s.CDROM.ImageID)}, DirectBoot: directBoot(s.DirectBoot),
	}
}

func directBoot(b vm.DirectBoot) *vmpb.DirectBoot {
	return &vmpb.DirectBoot{KernelImageId: grpcx.OptionalID(b.KernelImageID), InitrdImageId: grpcx.OptionalID(b.InitrdImageID), CommandLine: grpcx.Text(b.CommandLine)}
}

func resources(r vm.Resources) *vmpb.Resources {
	return &vmpb.Resources{Vcpus: int64(r.VCPUs), MemoryMib: r.MemoryMiB, DiskGib: r.DiskGiB}
}

func problem(p *errs.Problem) *vmpb.Problem {
	if p == nil {
		return nil
	}
	out := &vmpb.Problem{Type: p.Type, Title: p.Title, Status: int64(p.Status), Detail: grpcx.Text(p.Detail), Instance: p.Instance, Code: p.Code, Step: p.Step,
		Action: grpcx.Text(p.Action), RequestId: p.RequestID, Retryable: p.Retryable, Meta: tags(p.Meta)}
	for _, f := range p.Errors {
		out.Errors = append(out.Errors, &vmpb.Field{Location: f.Location, Message: grpcx.Text(f.Message), Value: grpcx.Text(f.Value)})
	}
	return out
}

func texts(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, grpcx.Text(s))
	}
	return out
}

func tags(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[grpcx.Text(k)] = grpcx.Text(v)
	}
	return out
}
