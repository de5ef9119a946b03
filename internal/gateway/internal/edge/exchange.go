package edge

import (
	"context"
	"time"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// exchange is a request and its answer, as far as the edge knows them. It lives as long as the request, and the parts of the edge that need room
// for one request have it here.
type exchange struct {
	edge      *Edge
	writer    writer
	began     time.Time
	method    string // as the client sent it
	entry     *entry // nil: no route matched
	principal identity.Principal
	known     bool // principal is valid
	span      tracing.Span
	stages    stages // how long what came before the module took
	panicked  any    // what the handler panicked with
	stack     []byte // where; set before where that was in another goroutine

	cancel    context.CancelCauseFunc // ends what may be a stream; nil: it is none, or was not handed to its module
	stop      context.CancelFunc      // ends the context that has a deadline; nil: there is none
	endStream func()                  // nil: the answer is no stream

	values [8]string // of headers, see value
	used   int
}

// end ends the context of the module. cause is told to streams.
func (x *exchange) end(cause error) {
	if x.cancel != nil {
		x.cancel(cause)
	}
	if x.stop != nil {
		x.stop()
	}
}

// streams is told when the answer turns out to be a stream.
func (x *exchange) streams(kind string) {
	x.endStream = x.edge.deps.Metrics.Stream("gateway", kind)
	x.edge.inflight.stream(x)
}

// value makes the list of a header that has one value, without taking room of its own.
func (x *exchange) value(v string) []string {
	if x.used == len(x.values) {
		return []string{v}
	}
	x.values[x.used] = v
	x.used++
	return x.values[x.used-1 : x.used : x.used]
}

// The headers of every answer but for the request's id. Lists are shared by all answers: whoever adds to one gets another.
//
//nolint:gochecknoglobals // constant
var (
	apiVersion     = []string{gateway.APIVersion}
	noSniff        = []string{"nosniff"}
	denyFrames     = []string{"DENY"}
	noReferrer     = []string{"no-referrer"}
	securityPolicy = []string{"default-src 'none'; frame-ancestors 'none'"}
	noStore        = []string{"no-store"}
)

// stdHeaders are in every answer. Handlers may replace them: pages for browsers bring their own policy.
func (x *exchange) stdHeaders(h map[string][]string, id string) {
	h["Api-Version"] = apiVersion
	h["X-Request-Id"] = x.value(id)
	h["X-Content-Type-Options"] = noSniff
	h["X-Frame-Options"] = denyFrames
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = securityPolicy
	h["Cache-Control"] = noStore
}
