package guestagent

import (
	"context"
	"errors"

	"github.com/novacron/novacron/internal/vm"
)

// Where cloud-init says how far it is: the first file is there as soon as it runs, the second when it is done
// (cloud-init documentation, "Reported status").
const (
	initStatus = "/run/cloud-init/status.json"
	initResult = "/run/cloud-init/result.json"
)

// Ready tells whether the guest is set up: its agent answers, and cloud-init is done or not there at all. Agents that open no files are taken
// at their answer.
func (a *Agent) Ready(ctx context.Context) (bool, error) {
	done, err := a.has(ctx, initResult)
	if err != nil || done {
		return done, err
	}
	running, err := a.has(ctx, initStatus)
	return !running, err
}

func (a *Agent) has(ctx context.Context, path string) (bool, error) {
	handle, err := a.open(ctx, path, "r")
	switch {
	case errors.Is(err, vm.ErrAgentRefused):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, a.close(ctx, handle)
}
