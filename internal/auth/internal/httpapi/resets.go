package httpapi

import (
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/service"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// ForgotInput is what POST /auth/password/forgot takes.
type ForgotInput struct {
	Body struct {
		Email string `json:"email" format:"email" minLength:"3" maxLength:"254" example:"ada@example.org"`
	}
}

// UseLinkInput is what POST /auth/password/reset takes.
type UseLinkInput struct {
	Body struct {
		Token       string `json:"token" minLength:"1" maxLength:"512" doc:"The end of the link." example:"ncp_8sYt…"`
		NewPassword string `json:"new_password" minLength:"1" maxLength:"1024" doc:"At least 12 characters, at most 256 bytes."`
	}
}

// ResetLink is a link with which a user can set a password.
type ResetLink struct {
	UserID    uuid.UUID `json:"user_id"`
	Token     string    `json:"token" doc:"For POST /auth/password/reset." example:"ncp_8sYt…"`
	URL       string    `json:"url" doc:"The link. Where the installation does not know its own address it begins with the path." example:"https://cloud.example.org/auth/password/reset?token=ncp_8sYt…"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ResetLinkOutput carries it past every cache.
type ResetLinkOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         ResetLink
}

func (a *api) registerResets(h *httpx.API) {
	httpx.Handle(h, httpx.Op{
		ID: "auth-password-forgot", Method: http.MethodPost, Path: "/auth/password/forgot", Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary:     "Have a link mailed that resets a password",
		Description: "The answer is the same for every address, known or not.", Status: http.StatusAccepted,
		Errors: []*errs.Error{auth.ErrMailOff, auth.ErrThrottled, auth.ErrUnavailable},
	}, func(ctx context.Context, in *ForgotInput) (*Empty, error) {
		return &Empty{}, a.s.RequestReset(ctx, in.Body.Email, client(ctx))
	})
	useErrors := []*errs.Error{auth.ErrResetToken, auth.ErrWeakPassword, auth.ErrThrottled, auth.ErrBusy, auth.ErrUnavailable}
	httpx.Handle(h, httpx.Op{
		ID: "auth-password-reset", Method: http.MethodPost, Path: service.ResetPath, Permission: identity.Public, Tag: "auth", MaxBody: maxBody,
		Summary:     "Set a password with a link",
		Description: "The link works once. All sessions of the account end; nobody is logged in, and a second factor is asked for as before.", Status: http.StatusNoContent,
		Errors: useErrors,
	}, func(ctx context.Context, in *UseLinkInput) (*Empty, error) {
		return &Empty{}, a.s.UseResetLink(ctx, in.Body.Token, in.Body.NewPassword, client(ctx))
	})
	httpx.Handle(h, httpx.Op{
		ID: "user-password-link", Method: http.MethodPost, Path: "/api/v1/users/{id}/password-link", Permission: userWrite, Tag: "users",
		Summary:     "Make a link with which a user can set a password",
		Description: "Hand it to them in person: whoever has it can use it, once. The password stays as it is until then. Nobody makes one for who holds more than themselves.",
		Status:      http.StatusCreated,
		Errors:      []*errs.Error{auth.ErrUserNotFound, auth.ErrGrantExceedsOwn, auth.ErrOwnPassword, auth.ErrServiceAccount},
	}, func(ctx context.Context, in *ByID) (*ResetLinkOutput, error) {
		p, err := caller(ctx)
		if err != nil {
			return nil, err
		}
		link, err := a.s.CreateResetLink(ctx, p, in.ID)
		if err != nil {
			return nil, err
		}
		return &ResetLinkOutput{CacheControl: noStore, Body: ResetLink{UserID: in.ID, Token: link.Token, URL: link.URL, ExpiresAt: link.ExpiresAt}}, nil
	})
	h.Raw(httpx.Op{ID: "auth-password-page", Method: http.MethodGet, Path: service.ResetPath, Permission: identity.Public, Tag: "auth",
		Summary: "The page that a link to reset a password leads to"},
		httpx.RawDoc{Parameters: []httpx.RawParam{{In: "query", Name: "token", Description: "The end of the link.", Example: "ncp_8sYt…"}},
			AnswerType: "text/html", AnswerText: "A form for the new password."},
		func(w http.ResponseWriter, r *http.Request) {
			writePage(w, http.StatusOK, pageData{Token: r.URL.Query().Get("token")})
		})
	h.Raw(httpx.Op{ID: "auth-password-form", Method: http.MethodPost, Path: service.ResetPath + "/form", Permission: identity.Public, Tag: "auth",
		Summary: "What the page for a new password sends", Errors: useErrors},
		httpx.RawDoc{RequestType: "application/x-www-form-urlencoded", AnswerType: "text/html", AnswerText: "The page again, with what came of it."},
		a.resetForm)
}

// resetForm takes what the page sends.
func (a *api) resetForm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		httpx.WriteError(w, r, httpx.ErrMalformed.Wrap(err))
		return
	}
	data := pageData{Token: r.PostForm.Get("token")}
	first, second := r.PostForm.Get("new_password"), r.PostForm.Get("repeated")
	if first != second {
		data.Complaint = "The two are not the same."
		writePage(w, http.StatusUnprocessableEntity, data)
		return
	}
	err := a.s.UseResetLink(r.Context(), data.Token, first, client(r.Context()))
	if err != nil {
		e := errs.From(err)
		if errs.HTTPStatus(e.Kind) >= http.StatusInternalServerError || e.Kind == errs.Throttled {
			httpx.WriteError(w, r, err)
			return
		}
		data.Complaint = e.Message + ". " + e.Action
		writePage(w, errs.HTTPStatus(e.Kind), data)
		return
	}
	writePage(w, http.StatusOK, pageData{Done: true})
}

// resetHTML is the page. It has no script, so that it works with none allowed.
//
//go:embed reset.html
var resetHTML string

type pageData struct {
	Token     string
	Complaint string
	Done      bool
}

func writePage(w http.ResponseWriter, status int, data pageData) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", noStore)
	h.Set("Referrer-Policy", "no-referrer") // the address holds the token
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	page, err := template.New("reset").Parse(resetHTML)
	if err != nil {
		panic(err) // it is part of the program
	}
	w.WriteHeader(status)
	_ = page.Execute(w, data) // the client may be gone; there is nobody to tell
}
