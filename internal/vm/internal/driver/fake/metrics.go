package fake

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// SetStats makes a guest be measured so. The measured time on processors grows all the same.
func (d *Driver) SetStats(vm uuid.UUID, s driver.Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		dom.stats = &s
	}
}

// AddGuests adds guests of an installation that run, as if they had been started before.
func (d *Driver) AddGuests(installation uuid.UUID, ids ...uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		def := driver.DomainDef{VMID: id, InstallationID: installation, VCPUs: 1, MemoryBytes: 128 << 20}
		d.domains[id] = &domain{def: def, booted: def, observed: "running", reason: "booted", size: driver.Size{VCPUs: 1, MemoryBytes: 128 << 20}}
	}
}

// cpuStep is how much time on processors a guest of the fake takes between two measurements.
const cpuStep = 10_000_000

// Stats implements driver.Driver.
func (d *Driver) Stats(ctx context.Context) ([]driver.Stats, error) {
	var list []driver.Stats
	err := d.call(ctx, "Stats", uuid.Nil, false, func() error {
		list = make([]driver.Stats, 0, len(d.domains))
		for id, dom := range d.domains {
			if !isOn(dom) {
				continue
			}
			dom.cpuTime += cpuStep
			memory, rss, zero := dom.size.MemoryBytes, dom.size.MemoryBytes/2, int64(0)
			disk, used := int64(1<<30), int64(1<<28)
			s := driver.Stats{VCPUs: dom.size.VCPUs, Memory: &memory, MemoryMax: &memory, RSS: &rss,
				NetSent: &zero, NetRecv: &zero, DiskRead: &zero, DiskWritten: &zero, DiskCapacity: &disk, DiskAllocated: &used}
			if dom.stats != nil {
				s = *dom.stats
			}
			s.VMID, s.CPUTime = id, dom.cpuTime
			list = append(list, s)
		}
		return nil
	})
	return list, err
}
