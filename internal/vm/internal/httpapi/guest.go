package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// guestErrors are what every question to a guest agent may end in.
func guestErrors(more ...*errs.Error) []*errs.Error {
	return append([]*errs.Error{vm.ErrNotFound, vm.ErrWrongState, vm.ErrAgentUnavailable, vm.ErrAgentBusy, vm.ErrAgentRefused, vm.ErrAgentAnswer, nodeapi.ErrNodeSilent}, more...)
}

// ExecBody is what POST …/guest/exec takes. Of all of it only the command's path is kept in the audit trail: arguments, environment and input
// often hold secrets.
type ExecBody struct {
	Command string            `json:"command" minLength:"1" maxLength:"4096" audit:"value" doc:"Program, found by the guest's PATH unless it is a path. No shell is between: run /bin/sh with -c for one." example:"uname"`
	Args    []string          `json:"args,omitempty" maxItems:"1024" example:"[\"-a\"]"`
	Env     map[string]string `json:"env,omitempty" maxProperties:"256" doc:"Added to the environment of the agent."`
	Stdin   []byte            `json:"stdin,omitempty" contentEncoding:"base64" doc:"Base64; at most 64 KiB."`
}

// PasswordBody is what POST …/guest/password takes.
type PasswordBody struct {
	Username string `json:"username" minLength:"1" maxLength:"64" audit:"value" doc:"A user that the guest has." example:"root"`
	Password string `json:"password" minLength:"1" maxLength:"1024" doc:"One line." example:"correct horse battery staple"`
	Hashed   bool   `json:"hashed,omitempty" doc:"The password is a hash as crypt(3) makes them."`
}

func (a *API) registerGuests(kit *httpx.API) {
	type infoOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         vm.GuestInfo
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-guest-info", Method: http.MethodGet, Path: "/api/v1/vms/{id}/guest", Permission: "guest:read", Owned: true,
		Summary: "Ask the agent in the guest for what it knows", Tag: "guest", Errors: guestErrors(),
		Description: "Version and commands of the agent, operating system, host name, time zone, logged-in users, file systems and interfaces. All of it is the guest's word."},
		func(ctx context.Context, in *VMPath) (*infoOutput, error) {
			info, err := a.svc.GuestInfo(ctx, in.ID)
			return &infoOutput{CacheControl: "no-store", Body: info}, err
		})

	type execInput struct {
		VMPath
		WaitParams
		Body ExecBody
	}
	type execOutput struct{ Body vm.GuestExec }
	httpx.Handle(kit, httpx.Op{ID: "vm-guest-exec", Method: http.MethodPost, Path: "/api/v1/vms/{id}/guest/exec", Permission: "guest:exec", Owned: true,
		Summary: "Run a program in the guest", Tag: "guest", Errors: guestErrors(vm.ErrGuestInvalid),
		Description: "Runs it with the rights of the agent, which are root's, and answers when it has ended: 200 also where its exit code is not 0. `wait` is how long it " +
			"may run, 30 seconds unless it says otherwise and 5 minutes at most; what takes longer is killed, and answered with `timed_out`. Of each of its two streams the first 256 KiB are answered."},
		func(ctx context.Context, in *execInput) (*execOutput, error) {
			result, err := a.svc.GuestExec(ctx, service.ExecRequest{VMID: in.ID, Command: in.Body.Command, Args: in.Body.Args, Env: in.Body.Env, Stdin: in.Body.Stdin,
				Timeout: in.duration()})
			if err == nil && result.ExitCode != nil {
				audit.Detail(ctx, "exit_code", strconv.Itoa(*result.ExitCode))
			}
			return &execOutput{Body: result}, err
		})

	type passwordInput struct {
		VMPath
		Body PasswordBody
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-guest-password", Method: http.MethodPost, Path: "/api/v1/vms/{id}/guest/password", Permission: "guest:password", Owned: true,
		Summary: "Set the password of a user of the guest", Tag: "guest", Status: http.StatusNoContent, Errors: guestErrors(vm.ErrGuestInvalid)},
		func(ctx context.Context, in *passwordInput) (*struct{}, error) {
			return nil, a.svc.SetGuestPassword(ctx, in.ID, in.Body.Username, in.Body.Password, in.Body.Hashed)
		})

	type timeOutput struct{ Body vm.GuestTime }
	httpx.Handle(kit, httpx.Op{ID: "vm-guest-time", Method: http.MethodPost, Path: "/api/v1/vms/{id}/guest/time", Permission: "guest:time", Owned: true,
		Summary: "Set the guest's clock to the node's", Tag: "guest", Errors: guestErrors()},
		func(ctx context.Context, in *VMPath) (*timeOutput, error) {
			t, err := a.svc.SyncGuestTime(ctx, in.ID)
			return &timeOutput{Body: t}, err
		})

	path := httpx.RawParam{In: "query", Name: "path", Required: true, Description: "Absolute path in the guest.", Example: "/etc/motd"}
	kit.Raw(httpx.Op{ID: "vm-guest-pull", Audited: true, Method: http.MethodGet, Path: "/api/v1/vms/{id}/guest/files", Permission: "guest:pull", Owned: true,
		Summary: "Fetch a file from the guest", Tag: "guest", Errors: guestErrors(vm.ErrGuestInvalid, vm.ErrGuestFileSize, vm.ErrGuestFileBroken),
		Description: "The file is read with the rights of the agent, which are root's. An answer that ends before its Content-Length is not the whole file."},
		httpx.RawDoc{AnswerType: "application/octet-stream", AnswerText: "The file.", Parameters: []httpx.RawParam{path}}, a.pullFile)
	kit.Raw(httpx.Op{ID: "vm-guest-push", Method: http.MethodPut, Path: "/api/v1/vms/{id}/guest/files", Permission: "guest:push", Owned: true,
		Summary: "Put a file into the guest", Tag: "guest", Errors: guestErrors(vm.ErrGuestInvalid, vm.ErrGuestFileSize, vm.ErrGuestFileBroken),
		Description: "The body is the file. It appears in the guest when it has arrived whole: a file that is there gets the new content and keeps owner, mode and links; a new one belongs to root."},
		httpx.RawDoc{RequestType: "application/octet-stream", AnswerType: "application/json", AnswerText: "Path and size of the file.", Parameters: []httpx.RawParam{path,
			{In: "query", Name: "mode", Description: "Octal. Default: that of the file that is there, or 0644.", Example: "0600"}}}, a.pushFile)

	type metricsOutput struct{ Body vm.Metrics }
	httpx.Handle(kit, httpx.Op{ID: "vm-metrics", Method: http.MethodGet, Path: "/api/v1/vms/{id}/metrics", Permission: "vm:read", Owned: true,
		Summary: "Read the latest sample of processor, memory, network and disks", Tag: "vms", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrWrongState, vm.ErrNoMetrics},
		Description: "Nodes measure all their guests every few seconds (`vm.metrics_interval`); this is the last sample, as its node told it."},
		func(ctx context.Context, in *VMPath) (*metricsOutput, error) {
			m, err := a.svc.Metrics(ctx, in.ID)
			return &metricsOutput{Body: m}, err
		})
}

// fileOf reads what a request for a file names. An id that is none leads nowhere.
func fileOf(w http.ResponseWriter, r *http.Request) (id uuid.UUID, path string, ok bool) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		httpx.WriteError(w, r, httpx.ErrInvalid.WithField("path.id", "is not a UUID", chi.URLParam(r, "id")))
		return id, "", false
	}
	path = r.URL.Query().Get("path")
	audit.Detail(r.Context(), "path", path)
	return id, path, true
}

func (a *API) pullFile(w http.ResponseWriter, r *http.Request) {
	id, path, ok := fileOf(w, r)
	if !ok {
		return
	}
	f, err := a.svc.PullGuestFile(r.Context(), id, path)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(f.SizeBytes, 10))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Disposition", "attachment")
	w.WriteHeader(http.StatusOK)
	err = f.Copy(w)
	closed := f.Close()
	if err != nil {
		a.cfg.Log.InfoContext(r.Context(), "a file of a guest was not passed on whole", "vm_id", id, "error", err, "node_error", closed)
		panic(http.ErrAbortHandler) // so that nobody takes it for the whole file
	}
}

func (a *API) pushFile(w http.ResponseWriter, r *http.Request) {
	id, path, ok := fileOf(w, r)
	if !ok {
		return
	}
	file, err := a.svc.PushGuestFile(r.Context(), id, path, r.URL.Query().Get("mode"), r.Body)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(file) // the client may be gone
}
