package libvirt

import (
	"context"
	"errors"
	"math"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

const (
	defaultStatsPatience = 5 * time.Second
	// maxStuck is how many measurements may wait for guests that hang; libvirtd has some twenty workers for all its clients.
	maxStuck = 3
	// patienceOfGuest is what each guest adds to the patience: QEMUs are asked one after the other, and each takes some ms where guests are
	// emulated on a busy host.
	patienceOfGuest = 25 * time.Millisecond
	// stuckGrace is how long Close waits for them.
	stuckGrace = 2 * time.Second
)

// What is measured: plainStats are known to libvirtd itself or to the kernel, for the rest QEMU is asked.
const (
	plainStats = libvirt.DOMAIN_STATS_STATE | libvirt.DOMAIN_STATS_CPU_TOTAL | libvirt.DOMAIN_STATS_INTERFACE
	allStats   = plainStats | libvirt.DOMAIN_STATS_BALLOON | libvirt.DOMAIN_STATS_VCPU | libvirt.DOMAIN_STATS_BLOCK
)

// Stats implements driver.Driver. A QEMU that does not answer its monitor holds up the first call that asks it, for as long as it hangs:
// that call is left behind, and all guests are measured without their QEMUs. While it waits it holds the job of its guest, which the
// next calls therefore pass over (the flag NOWAIT).
func (d *Driver) Stats(ctx context.Context) ([]driver.Stats, error) {
	if d.stuck.Load() < maxStuck {
		list, err := d.stats(ctx, allStats)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return list, err
		}
	}
	list, err := d.stats(ctx, plainStats)
	for i := range list {
		list[i].Partial = true
	}
	return list, err
}

func (d *Driver) stats(ctx context.Context, kinds libvirt.DomainStatsTypes) ([]driver.Stats, error) {
	patience := d.cfg.StatsPatience + time.Duration(d.guests.Load())*patienceOfGuest
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return ask(ctx, d, "measure the virtual machines", func(c *libvirt.Connect) ([]driver.Stats, error) {
		late := time.AfterFunc(patience, func() { d.stuck.Add(1) })
		defer func() {
			if !late.Stop() {
				d.stuck.Add(-1)
			}
		}()
		records, err := c.GetAllDomainStats(nil, kinds, libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE|libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
		if err != nil {
			return nil, err
		}
		d.guests.Store(int32(min(len(records), math.MaxInt32)))
		list := make([]driver.Stats, 0, len(records))
		for i := range records {
			if id, ok := managedID(records[i].Domain); ok {
				s := statsOf(&records[i])
				s.VMID = id
				list = append(list, s)
			}
			_ = records[i].Domain.Free()
		}
		return list, nil
	})
}

// closeGrace is how long Close waits for calls under way: only guests that hang keep it from waiting to their end.
func (d *Driver) closeGrace() time.Duration {
	if d.stuck.Load() > 0 {
		return stuckGrace
	}
	return 24 * time.Hour
}

func number(v uint64) *int64 {
	n := int64(min(v, 1<<63-1))
	return &n
}

// statsOf adds up what libvirt tells of a guest. It leaves out what it could not ask QEMU for.
func statsOf(r *libvirt.DomainStats) driver.Stats {
	s := driver.Stats{Partial: true}
	if r.Cpu != nil {
		s.CPUTime = *number(r.Cpu.Time)
	}
	for _, v := range r.Vcpu {
		if v.StateSet && v.State != libvirt.VCPU_OFFLINE { // one that could be plugged in is listed, too
			s.VCPUs++
		}
	}
	addMemory(&s, r.Balloon)
	if len(r.Net) > 0 {
		var sent, received uint64
		for _, n := range r.Net { // libvirt tells of interfaces from the guest's side
			sent, received = sent+n.TxBytes, received+n.RxBytes
		}
		s.NetSent, s.NetRecv = number(sent), number(received)
	}
	addDisks(&s, r.Block)
	return s
}

func addMemory(s *driver.Stats, b *libvirt.DomainStatsBalloon) {
	if b == nil {
		return
	}
	kib := func(set bool, v uint64) *int64 {
		if !set {
			return nil
		}
		return number(min(v, 1<<50) * 1024)
	}
	s.Memory, s.MemoryMax, s.RSS = kib(b.CurrentSet, b.Current), kib(b.MaximumSet, b.Maximum), kib(b.RssSet, b.Rss)
	s.Available, s.Usable = kib(b.AvailableSet, b.Available), kib(b.UsableSet, b.Usable)
}

func addDisks(s *driver.Stats, disks []libvirt.DomainStatsBlock) {
	var read, written, allocated, capacity uint64
	asked := false
	for _, b := range disks {
		if b.RdBytesSet || b.WrBytesSet {
			asked = true
			read, written = read+b.RdBytes, written+b.WrBytes
		}
		if b.AllocationSet && b.CapacitySet {
			allocated, capacity = allocated+b.Allocation, capacity+b.Capacity
		}
	}
	if !asked {
		return
	}
	s.Partial = false
	s.DiskRead, s.DiskWritten = number(read), number(written)
	if capacity > 0 {
		s.DiskAllocated, s.DiskCapacity = number(allocated), number(capacity)
	}
}
