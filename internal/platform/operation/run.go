package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

type logger = *slog.Logger

// Logger gives a logger that names the operation.
func (r *Run) Logger() *slog.Logger { return r.log }

// Input decodes what the operation was created with.
func (r *Run) Input(v any) error {
	if err := json.Unmarshal(r.row.input, v); err != nil {
		return fmt.Errorf("decode input of operation: %w", err)
	}
	return nil
}

// State decodes what an earlier step kept with SetState. Where none did, v stays as it is.
func (r *Run) State(v any) error {
	if err := json.Unmarshal(r.row.state, v); err != nil {
		return fmt.Errorf("decode state of operation: %w", err)
	}
	return nil
}

// SetState keeps v for later steps and attempts, before the step goes on.
func (r *Run) SetState(ctx context.Context, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode state of operation: %w", err)
	}
	r.row.state = state
	if err := r.save(ctx); err != nil {
		return interruption(ctx, err)
	}
	return nil
}

// progressEvery is how often the progress within a step is written at most.
const progressEvery = 500 * time.Millisecond

// Progress tells how far the step at work is, in percent. It never goes back, and a failure to write it is of no account.
func (r *Run) Progress(ctx context.Context, percent int) {
	percent = r.progressAt(r.step, min(max(percent, 0), 100))
	if percent <= r.row.Progress || time.Since(r.told) < progressEvery {
		return
	}
	r.row.Progress, r.told = percent, time.Now()
	if err := r.save(ctx); err != nil {
		r.log.DebugContext(ctx, "progress not written", "error", err)
	}
}

// progressAt is the progress of the whole after so many steps and a part of the next. 100 is for the end alone.
func (r *Run) progressAt(steps, percent int) int {
	total, done := 0, 0
	for i, s := range r.saga.Steps {
		weight := max(s.Weight, 1)
		total += weight * 100
		switch {
		case i < steps:
			done += weight * 100
		case i == steps:
			done += weight * percent
		}
	}
	return max(r.row.Progress, min(done*100/total, 99))
}
