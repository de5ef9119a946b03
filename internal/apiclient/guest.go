package apiclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// GuestExec says what to run in a guest.
type GuestExec struct {
	Command string            `json:"command"`
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Stdin   []byte            `json:"stdin,omitempty"`
}

// GuestPassword is a new password of a user of a guest.
type GuestPassword struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Hashed   bool   `json:"hashed,omitempty"`
}

func guestPath(id uuid.UUID, rest string) string {
	return "/api/v1/vms/" + id.String() + "/guest" + rest
}

// GuestInfo asks the agent in a guest for what it knows.
func (c *Client) GuestInfo(ctx context.Context, id uuid.UUID) (Object[vm.GuestInfo], error) {
	return get[vm.GuestInfo](ctx, c, guestPath(id, ""))
}

// ExecInGuest runs a program in a guest, for so many whole seconds at most. It is sent once: nobody knows whether a request that got no answer
// ran it.
func (c *Client) ExecInGuest(ctx context.Context, id uuid.UUID, body GuestExec, limit time.Duration) (Object[vm.GuestExec], error) {
	var o Object[vm.GuestExec]
	ctx, cancel := context.WithTimeout(ctx, limit+c.cfg.Timeout)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodPost, path: guestPath(id, "/exec"), body: body, query: url.Values{"wait": {fmt.Sprint(int(limit.Seconds()))}}})
	if err != nil {
		return o, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&o); err != nil {
		return o, c.broken(ctx, err)
	}
	return o, nil
}

// PushGuestFile puts a file into a guest. size is -1 where it is not known; mode may be empty.
func (c *Client) PushGuestFile(ctx context.Context, id uuid.UUID, path, mode string, from io.Reader, size int64) (Object[vm.GuestFile], error) {
	q := url.Values{"path": {path}}
	if mode != "" {
		q.Set("mode", mode)
	}
	var o Object[vm.GuestFile]
	err := c.json(ctx, call{method: http.MethodPut, path: guestPath(id, "/files"), query: q, upload: &upload{from: from, size: size}}, &o)
	return o, err
}

// PullGuestFile fetches a file of a guest. An error means that what was written is not the whole file.
func (c *Client) PullGuestFile(ctx context.Context, id uuid.UUID, path string, to io.Writer) (size int64, err error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: guestPath(id, "/files"), query: url.Values{"path": {path}}, accept: "application/octet-stream, application/problem+json"})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	from := &answerBody{r: resp.Body}
	size, err = io.Copy(to, from)
	if from.err != nil {
		err = c.broken(ctx, from.err)
	}
	return size, err
}

// answerBody tells failures of reading an answer from those of writing it.
type answerBody struct {
	r   io.Reader
	err error
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// SetGuestPassword sets the password of a user of a guest.
func (c *Client) SetGuestPassword(ctx context.Context, id uuid.UUID, body GuestPassword) error {
	return c.json(ctx, call{method: http.MethodPost, path: guestPath(id, "/password"), body: body, key: newKey()}, nil)
}

// SyncGuestTime sets a guest's clock to its node's.
func (c *Client) SyncGuestTime(ctx context.Context, id uuid.UUID) (Object[vm.GuestTime], error) {
	return post[vm.GuestTime](ctx, c, guestPath(id, "/time"), nil)
}

// VMMetrics gives the latest sample of a machine.
func (c *Client) VMMetrics(ctx context.Context, id uuid.UUID) (Object[vm.Metrics], error) {
	return get[vm.Metrics](ctx, c, "/api/v1/vms/"+id.String()+"/metrics")
}
