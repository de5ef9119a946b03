package httpapi

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

func seconds(n *int) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(*n) * time.Second
	return &d
}

func (a *API) registerConsole(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "vm-console-log", Method: http.MethodGet, Path: "/api/v1/vms/{id}/console/log", Permission: "vm:console", Owned: true,
		Summary: "Read what the guest wrote to its serial console", Tag: "console", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrNoConsoleLog, nodeapi.ErrNodeSilent},
		Description: "Answers at most 256 KiB from the offset on. The header X-Console-Offset tells where the answer begins, X-Console-Size how long the log is; " +
			"to follow the log ask again from offset + length of the answer."},
		httpx.RawDoc{AnswerType: "text/plain", AnswerText: "The log, as the guest wrote it.", Parameters: []httpx.RawParam{
			{In: "query", Name: "offset", Description: "Bytes from the start; negative counts from the end. Default: the last 256 KiB.", Example: "-4096"},
		}}, a.consoleLog)

	kit.Raw(httpx.Op{ID: "vm-console-screenshot", Audited: true, Method: http.MethodGet, Path: "/api/v1/vms/{id}/console/screenshot", Permission: "vm:console", Owned: true,
		Summary: "Take a picture of the screen", Tag: "console", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrWrongState, nodeapi.ErrNoScreen, nodeapi.ErrNodeSilent}},
		httpx.RawDoc{AnswerType: "image/png", AnswerText: "The picture."}, a.screenshot)

	type ConsoleOpen struct {
		Kind     string `json:"kind,omitempty" enum:"serial,vnc" default:"serial" doc:"serial: text. vnc: the screen, keyboard and pointer."`
		ReadOnly bool   `json:"read_only,omitempty" doc:"Watch only: nothing that is typed reaches the guest."`
	}
	type ticketInput struct {
		VMPath
		Body *ConsoleOpen `required:"false"`
	}
	type ticketOutput struct {
		Status       int
		CacheControl string `header:"Cache-Control"`
		Body         ConsoleTicket
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-console-open", Method: http.MethodPost, Path: "/api/v1/vms/{id}/console", Permission: "vm:console", Owned: true,
		Summary: "Get a ticket for a console: the serial one, or the screen by VNC", Tag: "console", Status: http.StatusCreated,
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrWrongState},
		Description: "The ticket works once, within 30 seconds, for this virtual machine. Up to eight viewers share a console: all see what the guest shows, and all may type " +
			"who did not ask to watch only."},
		func(ctx context.Context, in *ticketInput) (*ticketOutput, error) {
			req := service.ConsoleRequest{VMID: in.ID, Kind: nodeapi.ConsoleSerial}
			if in.Body != nil {
				if req.ReadOnly = in.Body.ReadOnly; in.Body.Kind != "" {
					req.Kind = in.Body.Kind
				}
			}
			ticket, err := a.svc.IssueConsole(ctx, req)
			if err != nil {
				return nil, err
			}
			return &ticketOutput{Status: http.StatusCreated, CacheControl: "no-store", Body: ConsoleTicket{Ticket: ticket.Ticket, Kind: req.Kind, ReadOnly: req.ReadOnly,
				URL: "/api/v1/vms/" + in.ID.String() + "/console/ws?ticket=" + ticket.Ticket, ExpiresAt: ticket.ExpiresAt.UTC()}}, nil
		})
	kit.Raw(httpx.Op{ID: "vm-console-connect", Audited: true, Method: http.MethodGet, Path: "/api/v1/vms/{id}/console/ws", Permission: identity.Public,
		Summary: "Connect to a console by websocket", Tag: "console", Status: http.StatusSwitchingProtocols, Errors: []*errs.Error{stream.ErrTicket, nodeapi.ErrNoScreen, nodeapi.ErrViewers},
		Description: "Binary messages carry what the guest writes and what is typed; with a ticket for vnc the protocol of RFC 6143, without a password, as noVNC and others " +
			"speak it. The ticket stands for the caller's permission."},
		httpx.RawDoc{AnswerText: "The websocket.", Parameters: []httpx.RawParam{{In: "query", Name: "ticket", Required: true, Description: "From POST …/console."}}}, a.consoleSocket)
}

// ConsoleTicket is how a ticket for a console is shown.
type ConsoleTicket struct {
	Ticket    string    `json:"ticket"`
	Kind      string    `json:"kind" enum:"serial,vnc"`
	ReadOnly  bool      `json:"read_only"`
	URL       string    `json:"url" doc:"Path of the websocket, ticket included."`
	ExpiresAt time.Time `json:"expires_at"`
}

// consoleSocket connects a websocket to a console until either end closes.
func (a *API) consoleSocket(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		httpx.WriteError(w, r, stream.ErrTicket)
		return
	}
	console, err := a.svc.ConnectConsole(r.Context(), id, r.URL.Query().Get("ticket"))
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	defer console.Close()
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}}) // it refuses pages of other origins
	if err != nil {
		return // Accept has answered
	}
	defer socket.CloseNow() // after the orderly close below it does nothing
	both := websocket.NetConn(r.Context(), socket, websocket.MessageBinary)
	ended := make(chan struct{}, 2)
	for _, way := range [][2]io.ReadWriter{{both, console}, {console, both}} {
		go func() { // ends when either side is closed, which happens below
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
	_ = socket.Close(websocket.StatusNormalClosure, "the console has ended")
	_ = console.Close()
	<-ended
}

// screenshot answers with a picture.
func (a *API) screenshot(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		httpx.WriteError(w, r, httpx.ErrInvalid.WithField("path.id", "is not a UUID", chi.URLParam(r, "id")))
		return
	}
	picture, err := a.svc.Screenshot(r.Context(), id)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(picture) // the client may be gone
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
