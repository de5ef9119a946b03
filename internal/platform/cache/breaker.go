package cache

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/redis/go-redis/v9"
)

// breaker keeps callers from waiting, each for as long as a connection may take, for a server that has just failed several times: for a
// moment they are told at once, then one of them finds out whether the server is back.
type breaker struct {
	circuit circuitbreaker.CircuitBreaker[any]
}

// When the breaker opens and for how long: short enough that a server that is back is used within the second.
const (
	breakerFailures = 3
	breakerOpen     = 300 * time.Millisecond
)

var errBreakerOpen = errors.New("the server did not answer a moment ago")

func newBreaker() breaker {
	return breaker{circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerFailures).WithDelay(breakerOpen).WithSuccessThreshold(1).Build()}
}

type insideKey struct{}

// DialHook implements redis.Hook.
func (b breaker) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (b breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Value(insideKey{}) != nil { // the greeting on a new connection is a part of the command that needs it
			return next(ctx, cmd)
		}
		if !b.circuit.TryAcquirePermit() {
			cmd.SetErr(errBreakerOpen)
			return errBreakerOpen
		}
		err := next(context.WithValue(ctx, insideKey{}, true), cmd)
		b.note(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (b breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

// note records how a command ended. An answer of the server is one, whatever it says; a caller who gave up says nothing about the server.
func (b breaker) note(ctx context.Context, err error) {
	var answer redis.Error
	switch {
	case err == nil, errors.As(err, &answer), ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		b.circuit.RecordSuccess()
	default:
		b.circuit.RecordFailure()
	}
}
