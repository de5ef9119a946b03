package driver

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Agents is the part of a driver that talks to the agent in a guest.
type Agents interface {
	// AskAgent sends one command in the agent's protocol and gives the answer as it came. The guest wrote that: nothing in it can be
	// trusted. It takes not much longer than patience, twice, and holds up no other call on the guest. The errors: ErrNoAgent,
	// ErrAgentSilent, ErrAgentBusy, an *AgentRefusal, or one of nodeapi.
	AskAgent(ctx context.Context, vm uuid.UUID, command []byte, patience time.Duration) ([]byte, error)
}

// The errors of AskAgent.
var (
	ErrAgentSilent = errors.New("the guest agent is there and did not answer in time")
	ErrAgentBusy   = errors.New("too many questions to guest agents are open")
)

// AgentRefusal is an agent's refusal, in its own words.
type AgentRefusal struct{ Message string }

// Error implements error.
func (r *AgentRefusal) Error() string { return "the guest agent refused: " + r.Message }
