// Package keep gives answers again that were given a moment ago to the same question.
//
// What makes two questions the same is in Question: who asks, with which permissions, for which path and query. An answer of one caller is
// never another's, even in one tenant: what people see can depend on who they are, and only the module knows. Events from the bus make
// everything of a tenant another question at once. An answer that is a little too old is still given while one request fetches a new one,
// and requests that ask the same at the same moment share one answer.
package keep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// Store is the part of a cache that is needed.
type Store interface {
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
}

// MaxBody is the size above which an answer is not kept.
const MaxBody = 256 << 10

// Answer is what is kept of an answer: always one with the status 200.
type Answer struct {
	Header http.Header // those of the handler that belong to the content
	Body   []byte
	At     time.Time // when it was made
}

// Question is what an answer answers.
type Question struct {
	Path      string
	Query     string // raw
	Accept    string
	Principal identity.Principal // zero: nobody
	Known     bool
}

// key names a question. Parameters in another order make the same one.
func (q Question) key(generation string) string {
	room := make([]byte, 0, 1<<10)
	part := func(s string) { room = append(append(strconv.AppendInt(room, int64(len(s)), 10), ':'), s...) } // so that parts cannot run into each other
	part(generation)
	part(q.Path)
	part(sorted(q.Query))
	part(q.Accept)
	if q.Known {
		part(string(q.Principal.UserID[:]))
		part(string(q.Principal.TenantID[:]))
		part(string(q.Principal.Scope))
		part(q.Principal.Pending)
		for _, list := range [][]string{q.Principal.Permissions, q.Principal.Platform} {
			part(strconv.Itoa(len(list)))
			if !slices.IsSorted(list) { // they usually are
				list = slices.Sorted(slices.Values(list))
			}
			for _, p := range list {
				part(p)
			}
		}
	}
	sum := sha256.Sum256(room)
	return "gateway:answer:" + hex.EncodeToString(sum[:])
}

func sorted(raw string) string {
	if !strings.Contains(raw, "&") {
		return raw
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return raw
	}
	for _, list := range values {
		sort.Strings(list)
	}
	return values.Encode()
}

// The ways in which an answer came about, for the header X-Cache and for metrics.
const (
	Hit   = "hit"
	Miss  = "miss"
	Stale = "stale"
)

// Keeper is safe for concurrent use.
type Keeper struct {
	store   Store
	log     *slog.Logger
	now     func() time.Time
	flights singleflight.Group
	results *prometheus.CounterVec
	pending sync.WaitGroup // refreshes that go on by themselves

	mu          sync.Mutex // guards what follows
	generations map[uuid.UUID]string
	everybody   string
	latest      string // event, of any tenant
}

// New makes a Keeper and registers its metrics. reg may be nil.
func New(store Store, log *slog.Logger, reg prometheus.Registerer) (*Keeper, error) {
	k := &Keeper{store: store, log: log, now: time.Now, generations: map[uuid.UUID]string{},
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_cache_answers_total",
			Help: "Answers on routes whose answers are kept: hit, miss, or stale where an old one was given while a new one was fetched."}, []string{"result"})}
	return k, telemetry.Register(reg, "kept answers", k.results)
}

// maxTenants bounds what is remembered of tenants; beyond it everything is forgotten at once.
const maxTenants = 10_000

// Forget makes everything that a tenant could ask a new question. event is the id of what happened: gateways that share a store hear of
// the same events, and so come to the same questions.
func (k *Keeper) Forget(tenant uuid.UUID, event string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.generations) >= maxTenants {
		k.generations, k.everybody = map[uuid.UUID]string{}, event
	}
	k.generations[tenant], k.latest = event, event
}

// ForgetAll does so for everybody, for example after events were missed.
func (k *Keeper) ForgetAll(event string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generations, k.everybody, k.latest = map[uuid.UUID]string{}, event, event
}

// generation is by what the questions of a caller differ from those before the last change. Whoever reaches every tenant is touched by
// every change.
func (k *Keeper) generation(q Question) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q.Principal.Scope == identity.ScopePlatform || len(q.Principal.Platform) > 0 {
		return k.everybody + "/" + k.latest
	}
	return k.everybody + "/" + k.generations[q.Principal.TenantID]
}

// Fetch makes an answer, or gives nil for one that must not be kept.
type Fetch func(ctx context.Context) (*Answer, error)

// Serve gives the answer to a question and how it came about. fetch is asked where there is none; an answer of it is kept for ttl, and as
// long again as one that is a little old. fetch gives nil for what must not be kept: then Serve gives nil, too, and the caller asks itself.
func (k *Keeper) Serve(ctx context.Context, q Question, ttl time.Duration, fetch Fetch) (*Answer, string, error) {
	key := q.key(k.generation(q))
	if kept := k.look(ctx, key); kept != nil {
		age := k.now().Sub(kept.At)
		if age < ttl {
			k.results.WithLabelValues(Hit).Inc()
			return kept, Hit, nil
		}
		k.results.WithLabelValues(Stale).Inc()
		k.refresh(ctx, key, ttl, fetch)
		return kept, Stale, nil
	}
	k.results.WithLabelValues(Miss).Inc()
	made, err := k.fetch(ctx, key, ttl, fetch)
	return made, Miss, err
}

// Panicked is what fetch panicked with. It happened in a goroutine of the Keeper's, where nobody could tell a client, so it is an error for
// those who wait.
type Panicked struct {
	Value any
	Stack []byte
}

// Error implements error.
func (p *Panicked) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// guarded calls fetch and turns a panic into an error: in a goroutine that nobody else looks after, it would end the process.
func guarded(ctx context.Context, fetch Fetch) (made *Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			made, err = nil, &Panicked{Value: v, Stack: debug.Stack()}
		}
	}()
	return fetch(ctx)
}

// refresh fetches a new answer while the old one is given. The client may be gone before that is done.
func (k *Keeper) refresh(ctx context.Context, key string, ttl time.Duration, fetch Fetch) {
	k.pending.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
		defer cancel()
		_, err := k.fetch(ctx, key, ttl, fetch)
		var broken *Panicked
		switch {
		case err == nil:
		case errors.As(err, &broken) && broken.Value != http.ErrAbortHandler: //nolint:errorlint // a value that was thrown, not an error that was given
			k.log.ErrorContext(ctx, "handler panicked", "panic", fmt.Sprint(broken.Value), "stack", string(broken.Stack))
		default:
			k.log.DebugContext(ctx, "a kept answer could not be renewed", "error", err)
		}
	})
}

const refreshTimeout = 30 * time.Second

// Wait waits for answers that are being fetched by themselves.
func (k *Keeper) Wait() { k.pending.Wait() }

// fetch asks once for all who ask at the same time. Whoever leaves does not end the question of the others.
func (k *Keeper) fetch(ctx context.Context, key string, ttl time.Duration, fetch Fetch) (*Answer, error) {
	ch := k.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
		defer cancel()
		made, err := guarded(ctx, fetch)
		if err != nil || made == nil || len(made.Body) > MaxBody {
			return made, err
		}
		made.At = k.now()
		if err := k.store.Set(ctx, key, made.encode(), 2*ttl); err != nil { // the next one asks again
			k.log.DebugContext(ctx, "an answer could not be kept", "error", err)
		}
		return made, nil
	})
	select {
	case res := <-ch:
		made, _ := res.Val.(*Answer)
		return made, res.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *Keeper) look(ctx context.Context, key string) *Answer {
	raw, ok, err := k.store.Get(ctx, key)
	if err != nil || !ok { // a cache that is away is a cache that has nothing
		return nil
	}
	a, ok := decode(raw)
	if !ok {
		return nil
	}
	return a
}
