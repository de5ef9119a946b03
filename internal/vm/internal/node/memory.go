package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node/guestagent"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// How often a guest is asked to take up the memory that it was given, and how long it is between two questions: it may be booting.
const (
	onlineAttempts = 12
	onlineInterval = 5 * time.Second
)

// onlineMemory has a guest take up memory that was plugged into it. Nobody waits for that: most guests do so by themselves, and one without an
// agent is left alone.
func (n *Node) onlineMemory(vm uuid.UUID, bytes int64) {
	n.running.Go(func() { // ends with the node
		tick := time.NewTicker(onlineInterval)
		defer tick.Stop()
		for range onlineAttempts {
			if done, err := n.onlineOnce(vm, bytes); err == nil && done {
				return
			}
			select {
			case <-tick.C:
			case <-n.life.Done():
				return
			}
		}
		n.cfg.Log.Debug("a guest has not taken up all the memory that it was given", "vm_id", vm)
	})
}

func (n *Node) onlineOnce(vm uuid.UUID, bytes int64) (bool, error) {
	ctx, cancel := context.WithTimeout(n.life, askTimeout)
	defer cancel()
	return withGuest(ctx, n, nodeapi.Command{VMID: vm}, nodeapi.Guest{}, func(a *guestagent.Agent) (bool, error) { return a.OnlineMemory(ctx, bytes) })
}
