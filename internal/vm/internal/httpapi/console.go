package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func seconds(n *int) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(*n) * time.Second
	return &d
}

func (a *API) registerConsole(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "vm-console-log", Method: http.MethodGet, Path: "/api/v1/vms/{id}/console/log", Permission: "vm:console",
		Summary: "Read what the guest wrote to its serial console", Tag: "console", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrNoConsoleLog, nodeapi.ErrNodeSilent},
		Description: "Answers at most 256 KiB from the offset on. The header X-Console-Offset tells where the answer begins, X-Console-Size how long the log is; " +
			"to follow the log ask again from offset + length of the answer."},
		httpx.RawDoc{AnswerType: "text/plain", AnswerText: "The log, as the guest wrote it.", Parameters: []httpx.RawParam{
			{In: "query", Name: "offset", Description: "Bytes from the start; negative counts from the end. Default: the last 256 KiB.", Example: "-4096"},
		}}, a.consoleLog)
}

func (a *API) consoleLog(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		httpx.WriteError(w, r, httpx.ErrInvalid.WithField("path.id", "is not a UUID", chi.URLParam(r, "id")))
		return
	}
	offset := int64(-nodeapi.ConsoleChunkMax)
	if text := r.URL.Query().Get("offset"); text != "" {
		if offset, err = strconv.ParseInt(text, 10, 64); err != nil {
			httpx.WriteError(w, r, httpx.ErrInvalid.WithField("query.offset", "is not a number", text))
			return
		}
	}
	chunk, err := a.svc.ReadConsole(r.Context(), id, offset, nodeapi.ConsoleChunkMax)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Console-Offset", strconv.FormatInt(chunk.Offset, 10))
	w.Header().Set("X-Console-Size", strconv.FormatInt(chunk.Size, 10))
	_, _ = w.Write(chunk.Data) // the client may be gone
}
