package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// DriftConfig says what is done about drift without being asked.
type DriftConfig struct {
	Mode      vm.DriftMode
	Grace     time.Duration // how long a difference must have been there before its remedy is applied
	Retention time.Duration // how long what is set aside is kept in mode reap
	// MaxPerNode is how many machines and volumes may be set aside of one node without being asked. More at once are no leaks: that is how a database
	// looks that was restored from an older backup.
	MaxPerNode int
}

// plan says of each finding what is done about it, and when or why not.
func (c DriftConfig) plan(report *vm.DriftReport, on map[uuid.UUID][]uuid.UUID) {
	remedies := map[vm.DriftKind]vm.DriftRemedy{
		vm.DriftDomainLeaked: vm.RemedyQuarantine, vm.DriftDiskLeaked: vm.RemedyQuarantine, vm.DriftVolumeLeaked: vm.RemedyQuarantine,
		vm.DriftNetworkLeaked: vm.RemedyRemove, vm.DriftAllocationLeaked: vm.RemedyRelease, vm.DriftDefinitionEdited: vm.RemedyRedefine,
	}
	type onNode struct{ node, object uuid.UUID }
	aside := map[onNode]bool{}
	perNode := map[uuid.UUID]int{}
	for i := range report.Findings {
		f := &report.Findings[i]
		f.Remedy = vm.RemedyNone
		if remedy, ok := remedies[f.Kind]; ok {
			f.Remedy = remedy
		}
		if f.Remedy == vm.RemedyQuarantine && !aside[onNode{f.NodeID, f.ObjectID}] {
			aside[onNode{f.NodeID, f.ObjectID}] = true
			perNode[f.NodeID]++
		}
	}
	held := map[uuid.UUID]bool{} // their places are kept, so that they can come back whole
	for _, q := range report.Quarantined {
		held[q.ObjectID] = true
	}
	for i := range report.Findings {
		f := &report.Findings[i]
		switch guests := on[f.NodeID]; {
		case f.Remedy == vm.RemedyQuarantine && slices.Contains(guests, f.ObjectID):
			f.Held = "the guest is on, or has its memory saved"
		case (f.Kind == vm.DriftVolumeLeaked || f.Kind == vm.DriftNetworkLeaked) && len(guests) > 0:
			f.Held = "a guest that no row knows is on and may use it"
		case f.Remedy == vm.RemedyQuarantine && perNode[f.NodeID] > c.MaxPerNode:
			f.Held = fmt.Sprintf("%d machines and volumes of the node have no row, more than the %d that are taken for leaks: was the database restored from an older backup?", perNode[f.NodeID], c.MaxPerNode)
		}
		held[f.ObjectID] = held[f.ObjectID] || f.Remedy == vm.RemedyQuarantine
	}
	for i := range report.Findings {
		f := &report.Findings[i]
		if f.Kind == vm.DriftAllocationLeaked && held[f.ObjectID] {
			f.Held = "what it is the place of is on a node or set aside"
		}
		if due := f.Since.Add(c.Grace); f.Remedy != vm.RemedyNone && f.Held == "" && c.Mode != vm.DriftModeReport {
			f.DueAt = &due
		}
	}
	for i := range report.Quarantined {
		q := &report.Quarantined[i]
		if at := q.QuarantinedAt.Add(c.Retention); c.Mode == vm.DriftModeReap && !q.Known {
			q.ReapAt = &at
		}
	}
}

// HealDrift applies what is due of a report.
func (s *Service) HealDrift(ctx context.Context, report vm.DriftReport) error {
	now := time.Now()
	var failed error
	for _, f := range report.Findings {
		if f.DueAt == nil || f.DueAt.After(now) {
			continue
		}
		if err := s.remedy(ctx, f, false); err != nil && !errors.Is(err, vm.ErrLocked) { // it is busy, and may be put right by that
			failed = errors.Join(failed, fmt.Errorf("%s of %s: %w", f.Remedy, f.ObjectID, err))
		}
	}
	for _, q := range report.Quarantined {
		if q.ReapAt != nil && !q.ReapAt.After(now) {
			failed = errors.Join(failed, s.reap(ctx, q))
		}
	}
	return failed
}

// remedy applies the remedy of a finding. It can be repeated.
func (s *Service) remedy(ctx context.Context, f vm.DriftFinding, force bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if f.Remedy != vm.RemedyRedefine { // the others are for what no row knows, as it still must be now
		known, err := s.store.Known(ctx, []uuid.UUID{f.ObjectID})
		if err != nil || known[f.ObjectID] {
			return err
		}
	}
	defer func() {
		s.recorder.Acted(string(f.Remedy), err)
		s.log.WarnContext(ctx, "drift acted on", "kind", string(f.Kind), "remedy", string(f.Remedy), "object_id", f.ObjectID, "node_id", f.NodeID, "error", err)
	}()
	node := nodeapi.Target{NodeID: f.NodeID}
	switch f.Remedy {
	case vm.RemedyQuarantine:
		spec := nodeapi.QuarantineSpec{Kind: nodeapi.QuarantineVM, ID: f.ObjectID, Force: force}
		if f.Kind == vm.DriftVolumeLeaked {
			spec.Kind = nodeapi.QuarantineVolume
		}
		_, err = nodeapi.Do[nodeapi.Empty](ctx, s.nodes, node, nodeapi.VerbQuarantine, spec)
	case vm.RemedyRemove:
		_, err = nodeapi.Do[nodeapi.Empty](ctx, s.nodes, node, nodeapi.VerbRemoveNetwork, nodeapi.NetworkRef{ID: f.ObjectID})
	case vm.RemedyRelease:
		_, err = s.placer.Release(ctx, scheduler.ReleaseRequest{VMID: f.ObjectID})
	case vm.RemedyRedefine:
		err = s.redefine(ctx, f.ObjectID)
	}
	return err
}

// redefine begins to give a domain its definition again, as an edit does that changes nothing.
func (s *Service) redefine(ctx context.Context, id uuid.UUID) error {
	r, err := s.store.GetVM(ctx, id)
	if errors.Is(err, vm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.store.Begin(ctx, id, r.OwnerID, "", func(r store.Record, live *operation.Operation) (store.Intent, error) {
		if live != nil {
			return store.Intent{}, vm.ErrLocked
		}
		same := store.EditedOf(r.VM)
		return store.Intent{Kind: store.KindUpdate, Desired: r.DesiredState, Input: store.UpdateInput{Before: same, After: same}}, nil
	})
	return err
}

// reap removes what is set aside for good, unless a row knows it.
func (s *Service) reap(ctx context.Context, q vm.QuarantinedItem) (err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	known, err := s.store.Known(ctx, []uuid.UUID{q.ObjectID})
	if err != nil {
		return err
	}
	if known[q.ObjectID] {
		return vm.ErrKnown
	}
	_, err = nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: q.NodeID}, nodeapi.VerbReap, nodeapi.ObjectRef{ID: q.ObjectID})
	s.acted(ctx, vm.DriftActReap, q, err)
	return err
}

// restore puts what is set aside back, for a row that is there again.
func (s *Service) restore(ctx context.Context, q vm.QuarantinedItem) error {
	if !q.Known {
		return vm.ErrNoRow
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	_, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: q.NodeID}, nodeapi.VerbRestore, nodeapi.ObjectRef{ID: q.ObjectID})
	s.acted(ctx, vm.DriftActRestore, q, err)
	return err
}

func (s *Service) acted(ctx context.Context, action vm.DriftAction, q vm.QuarantinedItem, err error) {
	s.recorder.Acted(string(action), err)
	s.log.WarnContext(ctx, "quarantine acted on", "action", string(action), "object_id", q.ObjectID, "node_id", q.NodeID, "bytes", q.Bytes, "error", err)
}

// ActOnDrift does what is asked for about what an audit finds now. Each object stands for itself.
func (s *Service) ActOnDrift(ctx context.Context, req vm.DriftRequest) (vm.DriftResults, error) {
	results := vm.DriftResults{Results: []vm.DriftResult{}}
	if !caller(ctx).AllowsPlatform("node:write") {
		return results, httpx.MissingPlatform("node:write")
	}
	report, err := s.AuditDrift(ctx)
	if err != nil {
		return results, err
	}
	for _, id := range req.ObjectIDs {
		r := vm.DriftResult{ObjectID: id, Remedies: []vm.DriftRemedy{}}
		var err error
		if req.Action == vm.DriftActHeal {
			r.Remedies, err = s.heal(ctx, report, id, req)
		} else {
			err = s.actOnQuarantined(ctx, report, id, req)
		}
		if r.Done = err == nil; err != nil {
			if errs.From(err).Kind == errs.Internal {
				s.log.ErrorContext(ctx, "drift could not be acted on", "object_id", id, "error", err)
			}
			r.Error = errs.ProblemOf(err, "", "")
		}
		results.Results = append(results.Results, r)
	}
	return results, nil
}

// heal applies every remedy of an object, also before its time and though it is held.
func (s *Service) heal(ctx context.Context, report vm.DriftReport, id uuid.UUID, req vm.DriftRequest) ([]vm.DriftRemedy, error) {
	applied := []vm.DriftRemedy{}
	for _, f := range report.Findings {
		kept := f.Kind == vm.DriftAllocationLeaked && f.Held != "" // as long as what it is the place of can come back
		if f.ObjectID != id || kept || f.Remedy == vm.RemedyNone || slices.Contains(applied, f.Remedy) {
			continue
		}
		applied = append(applied, f.Remedy)
		if req.DryRun {
			continue
		}
		if err := s.remedy(ctx, f, req.Force); err != nil {
			return applied, err
		}
	}
	if len(applied) == 0 {
		return applied, vm.ErrNoDrift
	}
	return applied, nil
}

func (s *Service) actOnQuarantined(ctx context.Context, report vm.DriftReport, id uuid.UUID, req vm.DriftRequest) error {
	for _, q := range report.Quarantined {
		switch {
		case q.ObjectID != id:
		case req.Action == vm.DriftActRestore && !q.Known:
			return vm.ErrNoRow
		case req.Action == vm.DriftActReap && q.Known:
			return vm.ErrKnown
		case req.DryRun:
			return nil
		case req.Action == vm.DriftActReap:
			return s.reap(ctx, q)
		default:
			return s.restore(ctx, q)
		}
	}
	return nodeapi.ErrNotQuarantined
}
