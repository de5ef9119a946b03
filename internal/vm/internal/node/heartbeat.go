package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Health in heartbeats.
const (
	healthy  = "healthy"
	degraded = "degraded"
)

// lowStorage is the free part of the storage below which a node is degraded.
const lowStorage = 0.05

// heartbeatLoop tells how the node is, from the acknowledged hello on.
func (n *Node) heartbeatLoop(ctx context.Context) {
	tick := time.NewTicker(n.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.beatNow:
		case <-ctx.Done():
			return
		}
		if !n.acked.Load() {
			continue
		}
		if err := n.beat(ctx); err != nil && ctx.Err() == nil {
			n.cfg.Log.Warn("a heartbeat could not be sent", "error", err)
		}
	}
}

func (n *Node) beat(ctx context.Context) error {
	h, err := n.heartbeat()
	if err != nil {
		return err
	}
	return bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat).Publish(ctx, n.cfg.Bus, h)
}

func (n *Node) heartbeat() (event.NodeHeartbeat, error) {
	memory, err := totalMemory()
	if err != nil {
		return event.NodeHeartbeat{}, err
	}
	total, free, err := n.store.Usage()
	if err != nil {
		return event.NodeHeartbeat{}, err
	}
	h := event.NodeHeartbeat{
		NodeID: n.cfg.NodeID, Name: n.cfg.Name, Epoch: n.epoch, Timestamp: time.Now().UTC(), Version: n.cfg.Version,
		Capacity:    event.Capacity{VCPUs: runtime.NumCPU(), MemoryBytes: memory, StorageBytes: total},
		StorageFree: free, Health: healthy, Running: n.watch.count()[nodeapi.ObservedRunning],
	}
	if info := n.info.Load(); info != nil {
		h.Architecture, h.CPUModel, h.Accelerator = info.Architecture, info.CPUModel, info.Accelerator
		h.Hypervisors, h.Hypervisor = info.Hypervisors, info.Version
	}
	var reasons []string
	if !n.connected.Load() {
		reasons = append(reasons, "the hypervisor does not answer")
	}
	if n.cfg.Firewall != nil && !n.protected.Load() {
		reasons = append(reasons, "the protection of the guests is not in force")
	}
	if total > 0 && float64(free) < lowStorage*float64(total) {
		reasons = append(reasons, fmt.Sprintf("less than %.0f %% of the storage is free", lowStorage*100))
	}
	if len(reasons) > 0 {
		h.Health, h.Reason = degraded, strings.Join(reasons, "; ")
	}
	return h, nil
}

// totalMemory reads how much memory the host has.
func totalMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("ask for the host's memory: %w", err)
	}
	defer f.Close() // read only
	return parseMemTotal(f)
}

func parseMemTotal(r io.Reader) (int64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the host's memory: %w", err)
			}
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("the host does not tell its memory: %w", lines.Err())
}
