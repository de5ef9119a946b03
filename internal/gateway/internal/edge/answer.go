package edge

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/novacron/novacron/internal/gateway/internal/encode"
	"github.com/novacron/novacron/internal/gateway/internal/keep"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// recorder holds an answer back until it is whole, so that it can be compressed, compared with what the client has, or kept. A handler that
// flushes wants it to go out as it comes; from then on the recorder only passes it on.
type recorder struct {
	w      *writer
	header http.Header
	status int
	body   bytes.Buffer
	passes bool
	holds  bool // also what is flushed: a proxy flushes everything whose length it does not know
}

//nolint:gochecknoglobals // a pool
var recorders = sync.Pool{New: func() any { return new(recorder) }}

// maxPooled is the size above which a buffer is not kept for the next request.
const maxPooled = 256 << 10

func (c *recorder) Header() http.Header { return c.header }

func (c *recorder) WriteHeader(status int) {
	if c.passes || status < http.StatusOK {
		c.w.WriteHeader(status)
		return
	}
	if c.status == 0 {
		c.status = status
	}
}

func (c *recorder) Write(p []byte) (int, error) {
	if c.passes {
		return c.w.Write(p)
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.body.Write(p)
}

// Unwrap is for http.ResponseController, which finds deadlines and the connection below.
func (c *recorder) Unwrap() http.ResponseWriter { return c.w }

// Flush implements http.Flusher.
func (c *recorder) Flush() { _ = c.FlushError() } // the interface has no error

// FlushError is what http.ResponseController looks for.
func (c *recorder) FlushError() error {
	if c.holds {
		return nil
	}
	if !c.passes {
		c.passes = true
		if c.status != 0 {
			c.w.WriteHeader(c.status)
		}
		if _, err := c.w.Write(c.body.Bytes()); err != nil {
			return err
		}
	}
	return c.w.FlushError()
}

// answer lets the module answer, and brings the answer into the form that serves the client best.
func (e *Edge) answer(w *writer, r *http.Request, x *exchange) {
	found := x.entry
	switch {
	case found.Raw:
		found.handler.ServeHTTP(w, r)
		return
	case found.policy.CacheTTL > 0 && !found.Audited && e.deps.Keeper != nil && r.Method == http.MethodGet && !held(found, r):
		if e.answerKept(w, r, x) {
			return
		}
	}
	began := time.Now()
	c := record(w, w.Header())
	c.holds = found.url != ""
	defer c.release()
	found.handler.ServeHTTP(c, r)
	if c.passes {
		return
	}
	e.sendOwn(w, r, x, c, time.Since(began))
}

// sendOwn sends an answer that was made for this request, and is in the header already but for what is only known now.
func (e *Edge) sendOwn(w *writer, r *http.Request, x *exchange, c *recorder, took time.Duration) {
	if told := x.timing(x.entry.module, took); told != "" {
		w.Header()["Server-Timing"] = x.value(told)
	}
	if r.Method == http.MethodGet && c.status == http.StatusOK && w.Header().Get("Etag") == "" {
		w.Header()["Etag"] = x.value(weakETag(c.body.Bytes()))
	}
	e.send(w, r, c.status, c.body.Bytes())
}

func record(w *writer, header http.Header) *recorder {
	c, _ := recorders.Get().(*recorder)
	c.w, c.header, c.status, c.passes, c.holds = w, header, 0, false, false
	c.body.Reset()
	return c
}

func (c *recorder) release() {
	if c.body.Cap() <= maxPooled {
		c.w, c.header = nil, nil
		recorders.Put(c)
	}
}

//nolint:gochecknoglobals // one for the life of the process: after a restart clients fetch anew, which is always right
var etagSeed = maphash.MakeSeed()

// weakETag names a body. It is weak because a compressed form of the body has the same name.
func weakETag(body []byte) string {
	var hash [8]byte
	binary.BigEndian.PutUint64(hash[:], maphash.Bytes(etagSeed, body))
	name := append(make([]byte, 0, 24), `W/"`...)
	return string(append(hex.AppendEncode(name, hash[:]), '"'))
}

// send sends a whole answer: not at all where the client has it already, and compressed where that pays. Our strong ETags name the version
// of an object and not its bytes, so they stay as they are when the bytes are compressed.
func (e *Edge) send(w *writer, r *http.Request, status int, body []byte) {
	h := w.Header()
	if status == 0 {
		status = http.StatusOK
	}
	if r.Method == http.MethodGet && status == http.StatusOK {
		worth := encode.Worth(h.Get("Content-Type"), len(body)) && h.Get("Content-Encoding") == ""
		if worth {
			h.Add("Vary", "Accept-Encoding")
		}
		if match := r.Header.Get("If-None-Match"); match != "" && matches(match, h.Get("Etag")) {
			h.Del("Content-Type")
			h.Del("Content-Length")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if worth {
			if coding := encode.Pick(r.Header.Get("Accept-Encoding")); coding != encode.Identity {
				if packed, err := e.deps.Encoder.Encode(coding, body); err == nil && len(packed) < len(body) {
					h["Content-Encoding"] = w.x.value(coding)
					body = packed
				}
			}
		}
	}
	if len(body) > 0 || status != http.StatusNoContent {
		h["Content-Length"] = w.x.value(strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if len(body) > 0 {
		_, _ = w.Write(body) // the client may be gone; there is nobody to tell
	}
}

// matches compares an If-None-Match with an ETag, weakly (RFC 9110, section 13.1.2).
func matches(list, etag string) bool {
	if etag == "" {
		return false
	}
	etag = strings.TrimPrefix(etag, "W/")
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == etag {
			return true
		}
	}
	return false
}

// keptHeaders are those that belong to the content of an answer, and not to the request that it was first given to.
//
//nolint:gochecknoglobals // constant
var keptHeaders = []string{"Content-Type", "Content-Language", "Etag", "Last-Modified", "Link", "Location"}

// answerKept answers from what is kept, or with what will be. It tells whether it did: an answer that is not to be kept is left to the
// caller, who asks the module for it.
func (e *Edge) answerKept(w *writer, r *http.Request, x *exchange) bool {
	if strings.Contains(r.Header.Get("Cache-Control"), "no-cache") {
		return false
	}
	ttl := x.entry.policy.CacheTTL
	q := keep.Question{Path: r.URL.Path, Query: r.URL.RawQuery, Accept: r.Header.Get("Accept"), Principal: x.principal, Known: x.known}
	// What is not to be kept goes to the request that it was asked for; others who waited for it ask themselves. It may be set when this is
	// over, by what goes on behind the client.
	var own atomic.Pointer[recorder]
	began := time.Now()
	kept, how, err := e.deps.Keeper.Serve(r.Context(), q, ttl, func(ctx context.Context) (*keep.Answer, error) {
		c := record(nil, http.Header{})
		// The handler must not see what only this client asks for, because others may get the answer.
		alone := r.Clone(ctx)
		alone.Header.Del("If-None-Match")
		x.entry.handler.ServeHTTP(detached{c}, alone)
		if c.status != http.StatusOK || !keepable(c.header) {
			own.Store(c)
			return nil, nil //nolint:nilnil // there is an answer, but none to keep
		}
		defer c.release()
		a := &keep.Answer{Header: http.Header{}, Body: bytes.Clone(c.body.Bytes())}
		for _, name := range keptHeaders {
			if v, ok := c.header[name]; ok {
				a.Header[name] = v
			}
		}
		if a.Header.Get("Etag") == "" {
			a.Header["Etag"] = []string{weakETag(a.Body)}
		}
		return a, nil
	})
	var broken *keep.Panicked
	if errors.As(err, &broken) {
		x.stack = broken.Stack
		panic(broken.Value) // as if the handler had been asked here
	}
	if err != nil {
		return false
	}
	h := w.Header()
	if kept == nil {
		c := own.Load()
		if c == nil {
			return false
		}
		defer c.release()
		for name, v := range c.header {
			h[name] = v
		}
		e.sendOwn(w, r, x, c, time.Since(began))
		return true
	}
	for name, v := range kept.Header {
		h[name] = v
	}
	age := max(time.Since(kept.At), 0)
	h["X-Cache"] = x.value(how)
	h["Age"] = x.value(strconv.Itoa(int(age.Seconds())))
	h["Cache-Control"] = x.value("private, max-age=" + strconv.Itoa(int(max(ttl-age, 0).Seconds())))
	e.send(w, r, http.StatusOK, kept.Body)
	return true
}

// keepable tells whether an answer may be given again, by what its module says of it: it holds no secret, and depends on nothing of the request
// but what makes a question.
func keepable(h http.Header) bool {
	if len(h["Set-Cookie"]) > 0 || strings.Contains(strings.Join(h["Cache-Control"], ","), "no-store") {
		return false
	}
	for name := range strings.SplitSeq(strings.Join(h["Vary"], ","), ",") {
		switch http.CanonicalHeaderKey(strings.TrimSpace(name)) {
		case "", "Accept", "Accept-Encoding", "Authorization", "Origin", "X-Api-Key", httpx.HeaderTenant:
		default:
			return false
		}
	}
	return true
}

// detached is a recorder without a connection: what it would flush stays with it.
type detached struct{ c *recorder }

func (d detached) Header() http.Header         { return d.c.Header() }
func (d detached) WriteHeader(status int)      { d.c.WriteHeader(max(status, http.StatusOK)) }
func (d detached) Write(p []byte) (int, error) { return d.c.Write(p) }
