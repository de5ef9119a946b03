package service

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// policies remembers what every node has acknowledged, so that a policy that says the same again is not sent.
type policies struct {
	mu   sync.Mutex // guards what follows
	sent map[uuid.UUID]acknowledged
}

type acknowledged struct {
	content [sha256.Size]byte // of the policy without its version
	at      time.Time
}

// policyRefresh is how long an acknowledgement is taken for granted. A node may have been given an older backup meanwhile.
const policyRefresh = 5 * time.Minute

// policyTimeout bounds how long a request waits for a node to take a policy in.
const policyTimeout = 20 * time.Second

func contentOf(p nodeapi.Policy) ([sha256.Size]byte, error) {
	p.Version = 0
	raw, err := json.Marshal(p)
	return sha256.Sum256(raw), err
}

// pushPolicy gives a node its policy, without the virtual machine that is named. It is sent also where it says nothing new if force is
// set: a saga does not go on by what this process remembers.
func (s *Service) pushPolicy(ctx context.Context, node, without uuid.UUID, force bool) error {
	p, err := s.store.Policy(ctx, node, without)
	if err != nil {
		return err
	}
	content, err := contentOf(p)
	if err != nil {
		return fmt.Errorf("encode the policy of node %s: %w", node, err)
	}
	s.policies.mu.Lock()
	last, ok := s.policies.sent[node]
	s.policies.mu.Unlock()
	if !force && ok && last.content == content && time.Since(last.at) < policyRefresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	_, err = nodeapi.Do[nodeapi.PolicyApplied](ctx, s.nodes, nodeapi.Target{NodeID: node}, nodeapi.VerbApplyPolicy, p)
	if errors.Is(err, nodeapi.ErrStaleGeneration) {
		return nil // a newer one was quicker, and it has seen all that this one has
	}
	s.policies.mu.Lock()
	defer s.policies.mu.Unlock()
	if err != nil {
		delete(s.policies.sent, node)
		return fmt.Errorf("put the policy of node %s in force: %w", node, err)
	}
	if without == uuid.Nil {
		s.policies.sent[node] = acknowledged{content, time.Now()}
	} else {
		delete(s.policies.sent, node)
	}
	return nil
}

// SyncPolicies brings every node that answers to its policy: what a killed process did not get to tell, and what nodes missed that
// were away.
func (s *Service) SyncPolicies(ctx context.Context) error {
	nodes, err := s.readyNodes(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, node := range nodes {
		failed = errors.Join(failed, s.pushPolicy(ctx, node, uuid.Nil, false))
	}
	return failed
}

func (s *Service) readyNodes(ctx context.Context) ([]uuid.UUID, error) {
	nodes, err := s.placer.ListNodes(ctx, scheduler.ListNodesRequest{Limit: httpx.MaxLimit})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var ready []uuid.UUID
	for _, node := range nodes.Nodes {
		if node.State == scheduler.NodeReady {
			ready = append(ready, node.ID)
		}
	}
	return ready, nil
}

// rulesChanged tells the nodes of a change that is written already. What cannot be told now is told by the timer; the change stands, and a
// client could do nothing better than to wait for that.
func (s *Service) rulesChanged(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), policyTimeout)
	defer cancel()
	if err := s.SyncPolicies(ctx); err != nil {
		s.log.WarnContext(ctx, "nodes learn of changed rules later", "error", err)
	}
}
