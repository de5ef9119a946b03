package vmgrpc

import (
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc/vmpb"
)

// decoder reads parts of the contract.
type decoder struct{ grpcx.Decoder }

func (d *decoder) createRequest(r *vmpb.CreateVMRequest) vm.CreateVMRequest {
	c := r.GetCloudInit()
	out := vm.CreateVMRequest{
		Name: r.GetName(), HypervisorType: r.GetHypervisorType(), TemplateID: d.OptionalID(r.GetTemplateId()), ImageID: d.ID(r.GetImageId()), Flavor: r.GetFlavor(),
		Resources: resourcesOf(r.GetResources()), SSHKeys: r.GetSshKeys(), UserData: r.GetUserData(),
		CloudInit: vm.CloudInit{VendorData: c.GetVendorData(), NetworkConfig: c.GetNetworkConfig(), Hostname: c.GetHostname(), PasswordHash: c.GetPasswordHash()},
		Tags:      r.GetTags(), Description: r.GetDescription(), DeleteProtection: r.GetDeleteProtection(), CDROM: d.OptionalID(r.GetCdromImageId()),
		DirectBoot: d.directBoot(r.GetDirectBoot()), DiskBoot: r.GetDiskBoot(), Hardware: hardwareOf(r), BootOrder: r.GetBootOrder(), Stopped: r.GetStopped(), IdempotencyKey: r.GetIdempotencyKey(),
	}
	for _, n := range r.GetInterfaces() {
		nic := vm.InterfaceRequest{NetworkID: d.ID(n.GetNetworkId()), MAC: n.GetMac(), IPAddress: n.GetIpAddress(), Down: n.GetDown(),
			Bandwidth: vm.Bandwidth{InKbps: n.GetBandwidth().GetInKbps(), OutKbps: n.GetBandwidth().GetOutKbps()}}
		if groups := n.GetSecurityGroups(); groups != nil {
			nic.SecurityGroups = d.IDs(groups.GetValues())
		}
		out.Interfaces = append(out.Interfaces, nic)
	}
	return out
}

// hardwareOf reads what is named of it.
func hardwareOf(r *vmpb.CreateVMRequest) vm.Hardware {
	var h vm.Hardware
	if a := r.GetAutostart(); a != nil {
		h.Autostart = &vm.AutostartChange{Enabled: a.Enabled, Order: narrow(a.Order), DelaySeconds: narrow(a.DelaySeconds)}
	}
	if r.GetCpu() != nil {
		c := cpuOf(r.GetCpu())
		h.CPU = &c
	}
	if w := r.GetWatchdog(); w != nil {
		h.Watchdog = &vm.Watchdog{Model: w.GetModel(), Action: w.GetAction()}
	}
	if len(r.GetIoLimits()) > 0 {
		h.IOLimits = limitsOf(r.GetIoLimits())
	}
	return h
}

func narrow(n *int64) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

func cpuOf(c *vmpb.CPU) vm.CPU {
	return vm.CPU{Model: c.GetModel(), Sockets: int(c.GetSockets()), Cores: int(c.GetCores()), Threads: int(c.GetThreads())}
}

func limitsOf(list map[string]*vmpb.IOLimits) map[string]vm.IOLimits {
	out := make(map[string]vm.IOLimits, len(list))
	for disk, l := range list {
		out[disk] = vm.IOLimits{ReadIOPS: l.GetReadIops(), WriteIOPS: l.GetWriteIops(), ReadBPS: l.GetReadBytesPerSecond(), WriteBPS: l.GetWriteBytesPerSecond()}
	}
	return out
}

func (d *decoder) operation(o *vmpb.Operation) vm.Operation {
	return vm.Operation{
		ID: d.ID(o.GetId()), Kind: o.GetKind(), TargetID: d.ID(o.GetTargetId()), TenantID: d.ID(o.GetTenantId()), RequestedBy: d.ID(o.GetRequestedBy()),
		Status: vm.OperationStatus(o.GetStatus()), Progress: int(o.GetProgress()), Error: problemOf(o.GetError()), CreatedAt: o.GetCreatedAt().AsTime(),
		EndedAt: grpcx.When(o.GetEndedAt()),
	}
}

func (d *decoder) machine(m *vmpb.VM) vm.VM {
	seen := m.GetObserved()
	out := vm.VM{
		ID: d.ID(m.GetId()), Name: m.GetName(), State: vm.State(m.GetState()), DesiredState: vm.Desired(m.GetDesiredState()), HypervisorType: m.GetHypervisorType(),
		NodeID: d.OptionalID(m.GetNodeId()), OwnerID: d.ID(m.GetOwnerId()), TenantID: d.ID(m.GetTenantId()), ImageID: d.ID(m.GetImageId()), Flavor: m.GetFlavor(),
		Resources: resourcesOf(m.GetResources()), Networks: make([]vm.Interface, len(m.GetNetworks())), Disks: make([]vm.Disk, len(m.GetDisks())),
		Tags: m.GetTags(), Description: m.GetDescription(), Suspended: m.GetSuspended(), ReadyAt: grpcx.When(m.GetReadyAt()),
		Pending: make([]vm.Pending, len(m.GetPending())), Conditions: make([]vm.Condition, len(m.GetConditions())),
		Observed:   vm.Observed{State: seen.GetState(), Reason: seen.GetReason(), NodeID: d.OptionalID(seen.GetNodeId()), At: grpcx.When(seen.GetAt())},
		Generation: m.GetGeneration(), OperationID: d.OptionalID(m.GetOperationId()), Error: problemOf(m.GetError()), Settings: d.settings(m.GetSettings()),
		CreatedAt: m.GetCreatedAt().AsTime(), UpdatedAt: m.GetUpdatedAt().AsTime(),
	}
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	for i, n := range m.GetNetworks() {
		out.Networks[i] = d.nic(n)
	}
	for i, disk := range m.GetDisks() {
		out.Disks[i] = vm.Disk{Name: disk.GetName(), VolumeID: d.OptionalID(disk.GetVolumeId()), SizeBytes: disk.GetSizeBytes()}
	}
	for i, p := range m.GetPending() {
		out.Pending[i] = vm.Pending{Field: p.GetField(), Active: p.GetActive()}
	}
	for i, c := range m.GetConditions() {
		out.Conditions[i] = vm.Condition{Type: vm.DriftKind(c.GetType()), Message: c.GetMessage(), Since: c.GetSince().AsTime()}
	}
	if o := m.GetOrigin(); o != nil {
		out.Origin = &vm.Origin{VMID: d.ID(o.GetVmId()), SnapshotID: d.OptionalID(o.GetSnapshotId()), Mode: vm.CloneMode(o.GetMode())}
	}
	if r := m.GetRescue(); r != nil {
		out.Rescue = &vm.Rescue{ImageID: d.ID(r.GetImageId()), Since: r.GetSince().AsTime()}
	}
	return out
}

func (d *decoder) nic(n *vmpb.Interface) vm.Interface {
	out := vm.Interface{ID: d.ID(n.GetId()), NetworkID: d.ID(n.GetNetworkId()), MAC: n.GetMac(), IPAddress: n.GetIpAddress(), IPv6Address: n.GetIpv6Address(),
		SecurityGroups: d.IDs(n.GetSecurityGroups()), Link: n.GetLink(), OperationID: d.OptionalID(n.GetOperationId()), Addresses: grpcx.Some(n.GetAddresses())}
	if b := n.GetBandwidth(); b != nil {
		out.Bandwidth = &vm.Bandwidth{InKbps: b.GetInKbps(), OutKbps: b.GetOutKbps()}
	}
	return out
}

func (d *decoder) settings(s *vmpb.Settings) vm.Settings {
	a := s.GetAutostart()
	return vm.Settings{
		DeleteProtection: s.GetDeleteProtection(),
		Autostart:        vm.Autostart{Enabled: a.GetEnabled(), Order: int(a.GetOrder()), DelaySeconds: int(a.GetDelaySeconds())},
		CPU:              cpuOf(s.GetCpu()),
		IOLimits:         limitsOf(s.GetIoLimits()), Watchdog: vm.Watchdog{Model: s.GetWatchdog().GetModel(), Action: s.GetWatchdog().GetAction()},
		BootOrder: grpcx.Some(s.GetBootOrder()), CDROM: vm.CDROM{Drive: s.GetCdrom().GetDrive(), ImageID: d.OptionalID(s.GetCdrom().GetImageId())},
		DirectBoot: d.directBoot(s.GetDirectBoot()),
	}
}

func (d *decoder) directBoot(b *vmpb.DirectBoot) vm.DirectBoot {
	return vm.DirectBoot{KernelImageID: d.OptionalID(b.GetKernelImageId()), InitrdImageID: d.OptionalID(b.GetInitrdImageId()), CommandLine: b.GetCommandLine()}
}

func resourcesOf(r *vmpb.Resources) vm.Resources {
	return vm.Resources{VCPUs: int(r.GetVcpus()), MemoryMiB: r.GetMemoryMib(), DiskGiB: r.GetDiskGib()}
}

func problemOf(p *vmpb.Problem) *errs.Problem {
	if p == nil {
		return nil
	}
	out := &errs.Problem{Type: p.GetType(), Title: p.GetTitle(), Status: int(p.GetStatus()), Detail: p.GetDetail(), Instance: p.GetInstance(), Code: p.GetCode(),
		Step: p.GetStep(), Action: p.GetAction(), RequestID: p.GetRequestId(), Retryable: p.GetRetryable(), Meta: p.GetMeta()}
	for _, f := range p.GetErrors() {
		out.Errors = append(out.Errors, errs.Field{Location: f.GetLocation(), Message: f.GetMessage(), Value: f.GetValue()})
	}
	return out
}
