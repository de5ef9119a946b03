package nodeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
)

// Client is the controller's way to its nodes.
type Client struct {
	Bus            bus.Bus
	InstallationID uuid.UUID
}

// Target says whom a command is for.
type Target struct {
	NodeID     uuid.UUID
	VMID       uuid.UUID // zero for verbs that are not about a virtual machine
	Generation int64
}

// Do sends a command and waits for its answer, as long as ctx lasts.
func Do[Resp any](ctx context.Context, c *Client, to Target, verb Verb, req any) (Resp, error) {
	var resp Resp
	body, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("encode command %s: %w", verb, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return resp, fmt.Errorf("make command id: %w", err)
	}
	answer, err := bus.Call[Command, json.RawMessage](ctx, c.Bus, bus.SubjectNodeCommand(to.NodeID), Command{
		ID: id, InstallationID: c.InstallationID, VMID: to.VMID, Generation: to.Generation, Verb: verb, Body: body,
	})
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) { // it was the asker who had enough, not the node
			return resp, fmt.Errorf("command %s: %w", verb, context.Cause(ctx))
		}
		if errors.Is(err, bus.ErrNoResponders) || errors.Is(err, bus.ErrTimeout) {
			return resp, ErrNodeSilent.Wrap(fmt.Errorf("command %s: %w", verb, err))
		}
		return resp, fmt.Errorf("command %s: %w", verb, err)
	}
	if err := json.Unmarshal(answer, &resp); err != nil {
		return resp, fmt.Errorf("decode answer to command %s: %w", verb, err)
	}
	return resp, nil
}
