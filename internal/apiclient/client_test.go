package apiclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

func problem(w http.ResponseWriter, e *errs.Error) {
	p := errs.ProblemOf(e, "/x", "req-1")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// serve starts a server and gives a client of it that is logged in.
func serve(t *testing.T, mux http.Handler) (*apiclient.Client, *apiclient.MemoryTokens) {
	t.Helper()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	tokens := &apiclient.MemoryTokens{}
	set(t, tokens, apiclient.Tokens{Access: "good", Refresh: "r1", ExpiresAt: time.Now().Add(time.Hour)})
	c, err := apiclient.New(apiclient.Config{BaseURL: server.URL, Tokens: tokens, HTTP: server.Client(), UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	return c, tokens
}

func set(t *testing.T, store *apiclient.MemoryTokens, tokens apiclient.Tokens) {
	t.Helper()
	if err := store.Update(t.Context(), func(apiclient.Tokens) (apiclient.Tokens, error) { return tokens, nil }); err != nil {
		t.Fatal(err)
	}
}

func TestBaseURL(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://x", "http://", "http://u:p@h", "http://h?a=b", "%"} {
		if _, err := apiclient.New(apiclient.Config{BaseURL: bad}); !errors.Is(err, apiclient.ErrBaseURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	c, err := apiclient.New(apiclient.Config{BaseURL: "https://host/cloud/"})
	if err != nil || c.BaseURL() != "https://host/cloud" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestProblemBecomesError(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, vm.ErrNotFound.WithAction("List them.").WithField("path.id", "is unknown", "7"))
	}))
	_, err := c.GetVM(t.Context(), uuid.New())
	var e *apiclient.Error
	if !errors.As(err, &e) || !errors.Is(err, vm.ErrNotFound) || errors.Is(err, vm.ErrNameTaken) {
		t.Fatalf("got %v", err)
	}
	if e.Status != 404 || e.Action != "List them." || e.RequestID != "req-1" || len(e.Errors) != 1 || e.Errors[0].Location != "path.id" {
		t.Errorf("got %+v", e)
	}
}

func TestAnswersOfStrangers(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"http.418":                func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusTeapot) },
		apiclient.CodeProtocol:    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"http.404":                func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); fmt.Fprint(w, `{"a":1}`) },
		apiclient.CodeUnreachable: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		c, _ := serve(t, answer)
		_, err := c.GetVM(t.Context(), uuid.New())
		var e *apiclient.Error
		if !errors.As(err, &e) || e.Code != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestServerThatIsNotThereIsNotWaitedFor(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, err := apiclient.New(apiclient.Config{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Info(t.Context())
	var e *apiclient.Error
	if !errors.As(err, &e) || e.Code != apiclient.CodeUnreachable || !strings.Contains(e.Detail, "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestRepetition(t *testing.T) {
	busy := errs.New(errs.Unavailable, "t.busy", "busy")
	running := errs.New(errs.Conflict, "idempotency.in_progress", "at work").WithRetryable(true)
	full := errs.New(errs.Conflict, "scheduler.no_fit", "full").WithRetryable(true)
	for name, tc := range map[string]struct {
		refusal *errs.Error
		after   string
		call    func(context.Context, *apiclient.Client) error
		tries   int64 // two refusals, then success
	}{
		"read": {busy, "0", func(ctx context.Context, c *apiclient.Client) error { _, err := c.GetVM(ctx, uuid.New()); return err }, 3},
		"delete": {busy, "0", func(ctx context.Context, c *apiclient.Client) error {
			_, err := c.DeleteVM(ctx, uuid.New(), false)
			return err
		}, 3},
		"post with key": {busy, "0", func(ctx context.Context, c *apiclient.Client) error {
			_, err := c.CreateVM(ctx, apiclient.VMCreate{})
			return err
		}, 3},
		"key at work": {running, "", func(ctx context.Context, c *apiclient.Client) error {
			_, err := c.CreateVM(ctx, apiclient.VMCreate{})
			return err
		}, 3},
		"login":             {busy, "0", func(ctx context.Context, c *apiclient.Client) error { return c.Login(ctx, "u", "p") }, 1},
		"asks for too much": {busy, "3600", func(ctx context.Context, c *apiclient.Client) error { _, err := c.GetVM(ctx, uuid.New()); return err }, 1},
		"conflict": {full, "", func(ctx context.Context, c *apiclient.Client) error {
			_, err := c.CreateVM(ctx, apiclient.VMCreate{})
			return err
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int64
			var keys sync.Map
			c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if key := r.Header.Get("Idempotency-Key"); key != "" {
					keys.Store(key, true)
				}
				if tries.Add(1) <= 2 {
					w.Header().Set("Retry-After", tc.after)
					problem(w, tc.refusal)
					return
				}
				fmt.Fprint(w, `{"id":"01932c07-209c-7401-95a8-2c6d7e5d6c1a"}`)
			}))
			err := tc.call(t.Context(), c)
			if tries.Load() != tc.tries || (err == nil) != (tc.tries == 3) {
				t.Errorf("%d tries, %v", tries.Load(), err)
			}
			used := 0
			keys.Range(func(any, any) bool { used++; return true })
			if used > 1 {
				t.Errorf("a repetition used another key")
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	c, err := apiclient.New(apiclient.Config{BaseURL: server.URL, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.GetVM(t.Context(), uuid.New())
	var e *apiclient.Error
	if !errors.As(err, &e) || e.Code != apiclient.CodeTimeout {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetVM(ctx, uuid.New()); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled call gives %v", err)
	}
}

func TestPaging(t *testing.T) {
	const total = 1203
	var requests atomic.Int64
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		q := r.URL.Query()
		if q.Get("name") != "web" || q.Has("state") || q.Get("tenant_id") != "all" {
			t.Errorf("query %s", r.URL.RawQuery)
		}
		limit, _ := strconv.Atoi(q.Get("limit"))
		from, _ := strconv.Atoi(q.Get("cursor"))
		page := map[string]any{}
		var items []map[string]any
		for i := from; i < min(from+limit, total); i++ {
			items = append(items, map[string]any{"id": uuid.New(), "name": strconv.Itoa(i), "from_the_future": true})
		}
		page["items"] = items
		if from+limit < total {
			page["next_cursor"] = strconv.Itoa(from + limit)
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	all, err := apiclient.Collect(c.ListVMs(t.Context(), apiclient.VMFilter{Name: "web", AllTenants: true}))
	if err != nil || len(all) != total || all[total-1].Value.Name != strconv.Itoa(total-1) || requests.Load() != 3 {
		t.Fatalf("%d items in %d requests, %v", len(all), requests.Load(), err)
	}
	if raw, _ := json.Marshal(all[0]); !bytes.Contains(raw, []byte("from_the_future")) {
		t.Errorf("what this client does not know is lost: %s", raw)
	}
	some, err := apiclient.Collect(c.ListVMs(t.Context(), apiclient.VMFilter{Name: "web", AllTenants: true, Most: 502}))
	if err != nil || len(some) != 502 || requests.Load() != 5 {
		t.Errorf("%d items, %d requests, %v", len(some), requests.Load(), err)
	}
}

func TestPagingInACircleEnds(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"items":[],"next_cursor":"x"}`) }))
	_, err := apiclient.Collect(c.ListNetworks(t.Context(), "", 0))
	var e *apiclient.Error
	if !errors.As(err, &e) || e.Code != apiclient.CodeProtocol {
		t.Errorf("got %v", err)
	}
}

func TestUpload(t *testing.T) {
	image := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/images", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer new" {
			_, _ = io.Copy(io.Discard, r.Body) // else the connection may break before the answer is read
			problem(w, errs.New(errs.Unauthenticated, "auth.token_expired", "expired"))
			return
		}
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, image) || r.ContentLength != int64(len(image)) || r.Header.Get("Authorization") != "Bearer new" {
			t.Errorf("%d bytes of %d, %v, %s", len(got), r.ContentLength, err, r.Header.Get("Authorization"))
		}
		if q := r.URL.Query(); q.Get("name") != "my image" || q.Has("format") || r.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s, %v", r.URL, r.Header)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":%q,"status":"ready"}`, uuid.New())
	})
	mux.HandleFunc("POST /auth/refresh", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"access_token":"new","refresh_token":"r2","expires_in":900}`)
	})
	c, _ := serve(t, mux)
	var sent atomic.Int64
	got, err := c.UploadImage(t.Context(), apiclient.ImageUpload{Name: "my image", From: bytes.NewReader(image), Size: int64(len(image)), Progress: sent.Store})
	if err != nil || got.Value.Status != vm.ImageReady || sent.Load() != int64(len(image)) {
		t.Errorf("%+v, %v, %d bytes told", got.Value, err, sent.Load())
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func TestUploadThatCannotBeRead(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	_, err := c.UploadImage(t.Context(), apiclient.ImageUpload{Name: "x", From: brokenReader{}, Size: -1})
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("got %v", err)
	}
}
