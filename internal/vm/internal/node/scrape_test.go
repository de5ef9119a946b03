package node_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/node"
)

// measured counts the calls that measure.
func measured(d *fake.Driver) int {
	n := 0
	for _, c := range d.Calls() {
		if strings.HasPrefix(c, "Stats ") {
			n++
		}
	}
	return n
}

// TestAThousandGuestsInOneCall: every guest of the installation is told, and no other, with one call of the hypervisor for each message.
func TestAThousandGuestsInOneCall(t *testing.T) {
	const guests = 1000
	d := fake.New()
	c := newController(t, uuid.New())
	ids := make([]uuid.UUID, guests)
	for i := range ids {
		ids[i] = uuid.New()
	}
	d.AddGuests(c.installation, ids...)
	foreign := d.AddForeign()
	var mu sync.Mutex // guards what follows
	var told []event.VMMetrics
	sub, err := bus.NewTopic[event.VMMetrics](bus.SubjectVMMetrics).Subscribe(c.bus, bus.SubscribeOptions{}, func(_ context.Context, e event.VMMetrics) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	registry := prometheus.NewRegistry()
	dataDir := t.TempDir()
	n, stop := start(t, c, dataDir, d, func(cfg *node.Config) {
		cfg.MetricsInterval, cfg.Metrics, cfg.MetricsPerVM, cfg.PollInterval = 300*time.Millisecond, registry, true, time.Hour
	})
	ready(t, n)
	eventually(t, "three samples of every guest", func() error {
		mu.Lock()
		defer mu.Unlock()
		whole := 0
		for _, e := range told {
			if len(e.Samples) == guests {
				whole++
			}
		}
		if calls := measured(d); whole < 3 || calls < len(told) || calls > len(told)+1 { // the last may be under way
			return fmt.Errorf("%d samples; %d calls for %d messages", whole, calls, len(told))
		}
		return nil
	})
	stop()
	mu.Lock()
	defer mu.Unlock()
	last := told[len(told)-1]
	if last.NodeID != c.node || last.IntervalSeconds != 0.3 {
		t.Errorf("told as of %s, every %v s", last.NodeID, last.IntervalSeconds)
	}
	for _, s := range last.Samples {
		if s.VMID == foreign || !slices.Contains(ids, s.VMID) {
			t.Fatalf("a foreign guest is told of: %s", s.VMID)
		}
		if s.CPUUsage == nil || *s.CPUUsage <= 0 || *s.CPUUsage > 100 || s.MemoryUsage == nil || *s.MemoryUsage != 50 || s.DiskUsagePercentage == nil || *s.DiskUsagePercentage != 25 {
			t.Fatalf("a sample is %+v", s)
		}
	}
}

// TestSeriesOfGuests: there are none unless they are asked for, and those of a guest go with it.
func TestSeriesOfGuests(t *testing.T) {
	d := fake.New()
	c := newController(t, uuid.New())
	one, other := uuid.New(), uuid.New()
	d.AddGuests(c.installation, one, other)
	series := func(registry *prometheus.Registry) (ids []string, all map[string]bool) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all = map[string]bool{}
		for _, f := range families {
			all[f.GetName()] = true
			if f.GetName() == "novacron_vm_guest_cpu_seconds_total" {
				for _, m := range f.GetMetric() {
					ids = append(ids, m.GetLabel()[0].GetValue())
				}
			}
		}
		slices.Sort(ids)
		return ids, all
	}
	plain := prometheus.NewRegistry()
	n, stop := start(t, c, t.TempDir(), d, func(cfg *node.Config) { cfg.MetricsInterval, cfg.Metrics = 50*time.Millisecond, plain })
	ready(t, n)
	eventually(t, "a measurement", func() error {
		if measured(d) < 2 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if ids, all := series(plain); len(ids) > 0 || !all["novacron_vm_node_scrape_duration_seconds"] || !all["novacron_vm_node_scraped_guests"] {
		t.Errorf("without being asked for there are %v, %v", ids, all)
	}
	stop()
	each := prometheus.NewRegistry()
	d = d.Reborn()
	n, _ = start(t, c, t.TempDir(), d, func(cfg *node.Config) {
		cfg.MetricsInterval, cfg.Metrics, cfg.MetricsPerVM = 50*time.Millisecond, each, true
	})
	ready(t, n)
	want := []string{one.String(), other.String()}
	slices.Sort(want)
	eventually(t, "the series of both", func() error {
		if ids, _ := series(each); !slices.Equal(ids, want) {
			return fmt.Errorf("%v", ids)
		}
		return nil
	})
	d.DestroyBehind(other)
	eventually(t, "the series of one", func() error {
		if ids, _ := series(each); !slices.Equal(ids, []string{one.String()}) {
			return fmt.Errorf("%v", ids)
		}
		return nil
	})
}

// BenchmarkScrape measures a thousand guests, from the hypervisor's answer to a message on the bus; the fake's own part is measured beside it.
func BenchmarkScrape(b *testing.B) {
	const guests = 1000
	ids := make([]uuid.UUID, guests)
	for i := range ids {
		ids[i] = uuid.New()
	}
	d := fake.New()
	d.AddGuests(uuid.New(), ids...)
	if err := d.Open(b.Context(), func(driver.Event) {}); err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	b.Run("fake", func(b *testing.B) {
		for b.Loop() {
			if list, err := d.Stats(b.Context()); err != nil || len(list) != guests {
				b.Fatal(len(list), err)
			}
		}
	})
	b.Run("node", func(b *testing.B) { node.MeasureRepeatedly(b, d, ids) })
}
