package guestagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// Where cloud-init says how far it is: the first file is there as soon as it runs, the second when it is done
// (cloud-init documentation, "Reported status").
const (
	initStatus = "/run/cloud-init/status.json"
	initResult = "/run/cloud-init/result.json"
	// nowhere is what an agent refuses as it refuses all that is not there.
	nowhere = "/run/no-such-folder/result.json"
)

// maxInitStatus is far more than cloud-init writes to its status, in bytes.
const maxInitStatus = 256 << 10

// Ready tells whether the guest is set up: its agent answers, and cloud-init is done or not there at all. Agents that open no files at all are
// taken at their answer. One that may not read what cloud-init says is not: that something is kept from it says nothing of how far that is.
func (a *Agent) Ready(ctx context.Context) (bool, error) {
	result, err := a.find(ctx, initResult)
	if err != nil || result == found {
		return err == nil, err
	}
	status, err := a.find(ctx, initStatus)
	switch {
	case err != nil:
		return false, err
	case status == found && result == withheld:
		return a.initDone(ctx)
	}
	return result == absent && status == absent, nil
}

// finding is what an agent says of a file.
type finding int

const (
	absent   finding = iota
	found            // and it can be opened
	withheld         // it may be there or not
)

// find looks for a file. Agents refuse in the language of their guest, so a file is not there where it is refused as one that certainly is not.
func (a *Agent) find(ctx context.Context, path string) (finding, error) {
	refusal, err := a.tryOpen(ctx, path)
	if err != nil || refusal == "" {
		return found, err
	}
	usual, err := a.tryOpen(ctx, nowhere)
	if err != nil || refusal == usual {
		return absent, err
	}
	return withheld, nil
}

// tryOpen opens a file and closes it again, or tells the words that the agent refuses it with, less the name of the file.
func (a *Agent) tryOpen(ctx context.Context, path string) (refusal string, err error) {
	handle, err := a.open(ctx, path, "r")
	if errors.Is(err, vm.ErrAgentRefused) {
		var e *errs.Error
		errors.As(err, &e)
		return strings.ReplaceAll(e.Message, path, ""), nil
	}
	if err != nil {
		return "", err
	}
	return "", a.close(ctx, handle)
}

// initDone reads how far cloud-init is where its result cannot be read: it is in no stage, and the last one has ended.
func (a *Agent) initDone(ctx context.Context) (done bool, err error) {
	f, err := a.Open(ctx, initStatus, maxInitStatus)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close(ctx)) }()
	var text bytes.Buffer
	if err := f.Copy(ctx, &text); err != nil {
		return false, err
	}
	var status struct {
		V1 struct {
			Stage *string `json:"stage"`
			Last  struct {
				Finished *float64 `json:"finished"`
			} `json:"modules-final"`
		} `json:"v1"`
	}
	if err := json.Unmarshal(text.Bytes(), &status); err != nil {
		return false, nonsense("guest-file-read")
	}
	return status.V1.Stage == nil && status.V1.Last.Finished != nil, nil
}
