package guestagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// Ask sends one command and gives the answer as the guest wrote it; its errors are those of driver.Agents.
type Ask func(ctx context.Context, command []byte, patience time.Duration) ([]byte, error)

// Agent is the agent of one guest.
type Agent struct {
	ask      Ask
	patience time.Duration
}

// New makes an Agent that asks so, and waits so long for each answer. Nothing that is asked of it takes long: programs are started, and then
// asked for.
func New(ask Ask, patience time.Duration) *Agent { return &Agent{ask: ask, patience: patience} }

// slowest is how many bytes of a command an agent reads in a second at least: it does so byte by byte, and some guests are emulated.
const slowest = 32 << 10

const (
	maxAnswer = 4 << 20 // what libvirt passes on (REMOTE_STRING_MAX, libvirt 9.0.0)
	maxWords  = 300     // of a refusal
	maxText   = 256     // of a name or the like
	maxList   = 256
)

// call asks for something. out may be nil.
func (a *Agent) call(ctx context.Context, command string, arguments, out any) error {
	question, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("encode the command %s: %w", command, err)
	}
	answer, err := a.ask(ctx, question, a.patience+time.Duration(len(question))*time.Second/slowest)
	if err != nil {
		return translate(command, err)
	}
	if len(answer) > maxAnswer {
		return vm.ErrAgentAnswer.WithMessage("the guest agent's answer to %s is too long", command)
	}
	var envelope struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return nonsense(command)
	}
	if envelope.Error != nil {
		return refused(command, envelope.Error.Desc)
	}
	if out == nil {
		return nil
	}
	if len(envelope.Return) == 0 || string(envelope.Return) == "null" || json.Unmarshal(envelope.Return, out) != nil {
		return nonsense(command)
	}
	return nil
}

// nonsense does not quote the answer: what was in it may be a secret of the guest, or a bomb.
func nonsense(command string) error {
	return vm.ErrAgentAnswer.WithMessage("the guest agent's answer to %s makes no sense", command)
}

func refused(command, words string) error {
	return vm.ErrAgentRefused.WithMessage("the guest agent refused %s: %s", command, clean(words, maxWords)).WithMeta("command", command)
}

// translate tells users what a driver's error means.
func translate(command string, err error) error {
	var refusal *driver.AgentRefusal
	var own *errs.Error
	switch {
	case errors.As(err, &refusal):
		return refused(command, refusal.Message)
	case errors.Is(err, driver.ErrAgentSilent):
		return vm.ErrAgentUnavailable.WithMessage("the guest agent does not answer").Wrap(err)
	case errors.Is(err, driver.ErrNoAgent):
		return vm.ErrAgentUnavailable.Wrap(err)
	case errors.Is(err, driver.ErrAgentBusy):
		return vm.ErrAgentBusy.Wrap(err)
	case errors.As(err, &own):
		return err
	}
	return fmt.Errorf("ask the guest agent %s: %w", command, err)
}

// clean makes text of a guest fit to be shown: one line, short, valid.
func clean(text string, most int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "�") {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) { // also what turns the direction of writing around
			r = ' '
		}
		if b.Len()+4 > most {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
