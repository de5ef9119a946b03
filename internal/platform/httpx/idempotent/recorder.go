package idempotent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"net"
	"net/http"
	"strings"
)

// recorder keeps an answer back until it has been remembered. One that is flushed, hijacked or too large is let through as it comes,
// and is not remembered.
type recorder struct {
	to     http.ResponseWriter
	header http.Header
	status int // 0: none yet
	body   bytes.Buffer
	passed bool // what comes goes through
}

func newRecorder(to http.ResponseWriter) *recorder { return &recorder{to: to, header: http.Header{}} }

func (r *recorder) Header() http.Header {
	if r.passed {
		return r.to.Header() // trailers
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) {
	if status < http.StatusOK { // news on the way to the answer
		maps.Copy(r.to.Header(), r.header)
		r.to.WriteHeader(status)
		return
	}
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if !r.passed && r.body.Len()+len(b) > maxBody {
		r.pass()
	}
	if r.passed {
		return r.to.Write(b)
	}
	return r.body.Write(b)
}

// FlushError implements what http.ResponseController looks for.
func (r *recorder) FlushError() error {
	r.pass()
	return http.NewResponseController(r.to).Flush()
}

// Hijack implements http.Hijacker.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.passed = true
	return http.NewResponseController(r.to).Hijack()
}

// Unwrap gives http.ResponseController the way to deadlines and the like.
func (r *recorder) Unwrap() http.ResponseWriter { return r.to }

// pass sends what has been kept back, and lets the rest through.
func (r *recorder) pass() {
	if r.passed {
		return
	}
	r.send()
	r.passed = true
}

// send sends what has been kept back. It does nothing once the answer goes through by itself.
func (r *recorder) send() {
	if r.passed {
		return
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	maps.Copy(r.to.Header(), r.header)
	r.to.WriteHeader(r.status)
	_, _ = r.to.Write(r.body.Bytes()) // the client may be gone; there is nobody to tell
	r.body.Reset()
}

// answer gives the answer where it is one to remember.
func (r *recorder) answer() (Answer, bool) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.passed || !r.lasting() || r.secret() {
		return Answer{}, false
	}
	header := r.header.Clone()
	header.Del("Date")
	return Answer{Status: r.status, Header: header, Body: bytes.Clone(r.body.Bytes())}, true
}

// lasting tells whether the same request would be answered the same way later.
func (r *recorder) lasting() bool {
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly,
		http.StatusTooManyRequests:
		return false
	}
	if r.status >= http.StatusInternalServerError {
		return false
	}
	if kind, _, err := mime.ParseMediaType(r.header.Get("Content-Type")); err != nil || kind != "application/problem+json" {
		return true
	}
	var problem struct {
		Retryable bool `json:"retryable"`
	}
	return json.Unmarshal(r.body.Bytes(), &problem) == nil && !problem.Retryable
}

func (r *recorder) secret() bool {
	if len(r.header["Set-Cookie"]) > 0 {
		return true
	}
	for _, line := range r.header["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-store") {
				return true
			}
		}
	}
	return false
}
