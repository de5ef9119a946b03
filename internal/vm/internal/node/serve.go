package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// verb is how a command is carried out.
type verb struct {
	fenced bool // takes its turn with the other commands for the virtual machine, by generation
	once   bool // does something each time, so that the same command must not do it again
	// removal says that it removes what the command is about, so that the tombstone that it leaves does not keep it from being repeated.
	removal bool
	limit   time.Duration
	do      func(ctx context.Context, n *Node, c nodeapi.Command) (any, error)
}

// Limits of the time that a command may take. The grace time of a shutdown comes on top.
const (
	quickLimit = time.Minute
	workLimit  = 5 * time.Minute
	longLimit  = time.Hour
	pullLimit  = 2 * time.Hour
	maxGrace   = 30 * time.Minute
)

// verbs is the table of all commands.
func verbs() map[nodeapi.Verb]verb {
	return map[nodeapi.Verb]verb{
		nodeapi.VerbPullImage:     {limit: pullLimit, do: body((*Node).pullImage)},
		nodeapi.VerbDropImage:     {limit: workLimit, do: body((*Node).dropImage)},
		nodeapi.VerbEnsureNetwork: {limit: workLimit, do: body((*Node).ensureNetwork)},
		nodeapi.VerbRemoveNetwork: {limit: workLimit, do: body((*Node).removeNetwork)},
		nodeapi.VerbList:          {limit: quickLimit, do: body((*Node).list)},
		nodeapi.VerbDrain:         {limit: longLimit, do: body((*Node).drainForReboot)},
		nodeapi.VerbRanges:        {limit: quickLimit, do: body((*Node).ranges)},
		nodeapi.VerbInventory:     {limit: quickLimit, do: body((*Node).inventory)},
		nodeapi.VerbQuarantine:    {limit: workLimit, do: body((*Node).quarantine)},
		nodeapi.VerbRestore:       {limit: workLimit, do: body((*Node).restore)},
		nodeapi.VerbReap:          {limit: workLimit, do: body((*Node).reap)},
		nodeapi.VerbApplyPolicy:   {limit: workLimit, do: body((*Node).applyPolicy)},
		nodeapi.VerbListening:     {limit: quickLimit, do: body((*Node).listening)},

		nodeapi.VerbEnsureDisk:  {fenced: true, limit: workLimit, do: body((*Node).ensureDisk)},
		nodeapi.VerbCloneDisk:   {fenced: true, limit: pullLimit, do: body((*Node).cloneDisk)},
		nodeapi.VerbReplaceDisk: {fenced: true, limit: workLimit, do: body((*Node).replaceDisk)},
		nodeapi.VerbDropDisk:    {fenced: true, limit: workLimit, do: body((*Node).dropDisk)},
		nodeapi.VerbEnsureSeed:  {fenced: true, limit: workLimit, do: body((*Node).ensureSeed)},
		nodeapi.VerbEnsureMedia: {fenced: true, limit: workLimit, do: body((*Node).ensureMedia)},
		nodeapi.VerbDefine:      {fenced: true, limit: workLimit, do: body((*Node).define)},
		nodeapi.VerbStart:       {fenced: true, limit: workLimit, do: body((*Node).startVM)},
		nodeapi.VerbShutdown:    {fenced: true, limit: workLimit + maxGrace, do: body((*Node).shutdown)},
		nodeapi.VerbReboot:      {fenced: true, once: true, limit: workLimit + maxGrace, do: body((*Node).reboot)},
		nodeapi.VerbReset:       {fenced: true, once: true, limit: workLimit, do: body((*Node).reset)},
		nodeapi.VerbPause:       {fenced: true, limit: workLimit, do: body((*Node).pause)},
		nodeapi.VerbResume:      {fenced: true, limit: workLimit, do: body((*Node).resume)},
		nodeapi.VerbSuspend:     {fenced: true, limit: longLimit, do: body((*Node).suspend)},
		nodeapi.VerbResize:      {fenced: true, limit: workLimit, do: body((*Node).resize)},
		nodeapi.VerbTune:        {fenced: true, limit: workLimit, do: body((*Node).tune)},
		nodeapi.VerbRemove:      {fenced: true, removal: true, limit: workLimit, do: body((*Node).removeVM)},

		nodeapi.VerbEnsureVolume: {fenced: true, limit: pullLimit, do: body((*Node).ensureVolume)},
		nodeapi.VerbGrowVolume:   {fenced: true, limit: workLimit, do: body((*Node).growVolume)},
		nodeapi.VerbCleanVolume:  {fenced: true, limit: longLimit, do: body((*Node).cleanVolume)},
		nodeapi.VerbRemoveVolume: {fenced: true, removal: true, limit: workLimit, do: body((*Node).removeVolume)},

		nodeapi.VerbSetInterfaces: {fenced: true, limit: workLimit, do: body((*Node).setInterfaces)},

		nodeapi.VerbPlugDisks:      {fenced: true, limit: workLimit, do: body((*Node).plugDisks)},
		nodeapi.VerbUnplugDisk:     {fenced: true, limit: workLimit + maxUnplug, do: body((*Node).unplugDisk)},
		nodeapi.VerbGrowDisk:       {fenced: true, limit: workLimit, do: body((*Node).growDisk)},
		nodeapi.VerbTakeSnapshot:   {fenced: true, limit: longLimit, do: body((*Node).takeSnapshot)},
		nodeapi.VerbDropSnapshot:   {fenced: true, limit: longLimit, do: body((*Node).dropSnapshot)},
		nodeapi.VerbRevertSnapshot: {fenced: true, limit: longLimit, do: body((*Node).revertSnapshot)},
		nodeapi.VerbListVolumes:    {limit: quickLimit, do: body((*Node).listVolumes)},
		nodeapi.VerbListDisks:      {limit: quickLimit, do: body((*Node).listDisks)},

		// These change no intent. They never wait for a command at work and are refused to nobody.
		nodeapi.VerbInspect:     {limit: quickLimit, do: body((*Node).inspect)},
		nodeapi.VerbReadConsole: {limit: quickLimit, do: body((*Node).readConsole)},
		nodeapi.VerbOpenConsole: {limit: quickLimit, do: body((*Node).openConsole)},
		nodeapi.VerbScreenshot:  {limit: quickLimit, do: body((*Node).shootScreen)},

		// So do these. What they do is not idempotent, and the controller sends them once.
		nodeapi.VerbGuestInfo:     {limit: quickLimit, do: body((*Node).guestInfo)},
		nodeapi.VerbGuestExec:     {limit: nodeapi.GuestExecMax + quickLimit, do: body((*Node).guestExec)},
		nodeapi.VerbGuestPush:     {limit: fileLimit, do: body((*Node).guestPush)},
		nodeapi.VerbGuestPull:     {limit: fileLimit, do: body((*Node).guestPull)},
		nodeapi.VerbGuestPassword: {limit: quickLimit, do: body((*Node).guestPassword)},
		nodeapi.VerbGuestTime:     {limit: quickLimit, do: body((*Node).guestTime)},
	}
}

// body decodes a command's body for a method.
func body[Req, Resp any](f func(*Node, context.Context, nodeapi.Command, Req) (Resp, error)) func(context.Context, *Node, nodeapi.Command) (any, error) {
	return func(ctx context.Context, n *Node, c nodeapi.Command) (any, error) {
		var req Req
		if len(c.Body) > 0 {
			if err := json.Unmarshal(c.Body, &req); err != nil {
				return nil, nodeapi.ErrInvalidCommand.WithMessage("the body of %s cannot be read: %v", c.Verb, err)
			}
		}
		return f(n, ctx, c, req)
	}
}

// serve begins to listen for commands.
func (n *Node) serve(ctx context.Context) error {
	commands, err := bus.Serve(n.cfg.Bus, bus.SubjectNodeCommand(n.cfg.NodeID), bus.ServeOptions{Concurrency: maxRequests}, n.handle)
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	n.mu.Lock()
	late := ctx.Err() != nil || n.refused != nil
	if !late {
		n.commands = commands
	}
	n.mu.Unlock()
	if late {
		commands.Close()
	}
	return nil
}

// stopServing ends the commands at work and listens for no more.
func (n *Node) stopServing() {
	n.mu.Lock()
	commands := n.commands
	n.commands = nil
	n.mu.Unlock()
	if commands != nil {
		commands.Close()
	}
}

// maxRequests bounds the requests that are in the house at once, those that wait for their turn included. It is far above
// Config.Parallel, so that questions are answered however many commands wait for guests.
const maxRequests = 2048

// handle carries out one command and answers the JSON of its answer.
func (n *Node) handle(ctx context.Context, c nodeapi.Command) (json.RawMessage, error) {
	begin := time.Now()
	if span := tracing.Current(ctx); span.Recorded() {
		span.Name("node " + string(c.Verb))
		span.Set(tracing.String("novacron.vm_id", c.VMID.String()), tracing.String("novacron.node_id", n.cfg.NodeID.String()), tracing.Int("novacron.generation", int(c.Generation)))
	}
	answer, err := n.carryOut(ctx, c)
	err = public(err)
	result := "ok"
	if err != nil {
		result = errs.From(err).Code
		n.cfg.Log.InfoContext(ctx, "a command failed", "verb", c.Verb, "vm_id", c.VMID, "generation", c.Generation, "command_id", c.ID, "error", err)
	}
	n.metrics.command(string(c.Verb), result, time.Since(begin))
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return data, nil
}

func (n *Node) carryOut(ctx context.Context, c nodeapi.Command) (any, error) {
	v, ok := n.verbs[c.Verb]
	if !ok {
		return nil, nodeapi.ErrUnknownVerb.WithMessage("the node does not know the command %q", c.Verb)
	}
	n.mu.Lock()
	installation, refused := n.installation, n.refused
	n.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	if c.InstallationID != installation {
		return nil, nodeapi.ErrWrongInstallation
	}
	ctx, cancel := context.WithTimeout(ctx, v.limit)
	defer cancel()
	do := func() (any, error) { return v.do(ctx, n, c) }
	if v.fenced {
		do = func() (any, error) { return n.inTurn(ctx, c, v) }
	}
	if v.once && c.ID != uuid.Nil {
		return n.once.do(ctx, c.ID, do)
	}
	return do()
}

// inTurn carries out a command in its turn, unless a newer one has come.
func (n *Node) inTurn(ctx context.Context, c nodeapi.Command, v verb) (any, error) {
	if c.VMID == uuid.Nil {
		return nil, nodeapi.ErrInvalidCommand.WithMessage("%s names no virtual machine", c.Verb)
	}
	if n.boot.isDraining() {
		return nil, nodeapi.ErrNodeSilent.WithMessage("the host of the node shuts down")
	}
	if err := n.journal.Check(c.VMID, c.Generation, v.removal); err != nil {
		return nil, err
	}
	turn, leave, err := n.fence.enter(ctx, c.VMID, c.Generation)
	if err != nil {
		return nil, err
	}
	defer leave()
	select {
	case n.limit <- struct{}{}:
		defer func() { <-n.limit }()
	case <-turn.Done():
		return nil, context.Cause(turn)
	}
	if err := n.journal.Advance(c.VMID, c.Generation, v.removal); err != nil {
		return nil, err
	}
	answer, err := v.do(turn, n, c)
	if err != nil && errors.Is(context.Cause(turn), nodeapi.ErrStaleGeneration) {
		return nil, nodeapi.ErrStaleGeneration.Wrap(err)
	}
	return answer, err
}

// public gives the ends of contexts, which tell nothing to the other side, an error that does.
func public(err error) error {
	var own *errs.Error
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return bus.ErrTimeout.WithMessage("the node could not finish the command in time").Wrap(err)
	case errors.Is(err, context.Canceled):
		return nodeapi.ErrNodeSilent.WithMessage("the node stopped before it could finish the command").Wrap(err)
	}
	return err
}

func isRefused(err error) bool { return errors.Is(err, nodeapi.ErrHypervisorRefused) }

func isNotDefined(err error) bool { return errors.Is(err, nodeapi.ErrNotDefined) }
