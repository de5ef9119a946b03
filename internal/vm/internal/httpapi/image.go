package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

func (a *API) registerImages(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "image-upload", Method: http.MethodPost, Path: "/api/v1/images", Permission: "image:create", Owned: true,
		Summary: "Upload a disk image", Tag: "images", Status: http.StatusCreated, MaxBody: a.cfg.MaxImageBytes,
		Description: "The body is the image itself (`application/octet-stream`), or a form with one file (`multipart/form-data`). Formats: qcow2 and raw, told by the " +
			"header. An image that refers to other files (backing file, external data file, extents) is refused before any tool opens it. " +
			"Answers with the image, which is `importing` until it has been converted; virtual machines may be created from it at once.",
		Errors: []*errs.Error{vm.ErrImageInvalid, vm.ErrImageRefused, vm.ErrImageTooLarge, vm.ErrImageChecksum, nodeapi.ErrStorageFull}},
		httpx.RawDoc{RequestType: "application/octet-stream", AnswerType: "application/json", AnswerText: "The image.", Parameters: []httpx.RawParam{
			{In: "query", Name: "name", Required: true, Description: "Name of the image, 1 to 255 characters.", Example: "debian-12"},
			{In: "query", Name: "format", Description: "qcow2 or raw. The header decides; a contradiction is refused.", Example: "qcow2"},
			{In: "query", Name: "checksum", Description: "sha256:<hex> of the bytes.", Example: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
		}}, a.uploadImage)

	type listInput struct {
		httpx.PageParams
		Name string `query:"name" maxLength:"255" doc:"Only those of this name."`
	}
	type listOutput struct{ Body httpx.Page[vm.Image] }
	httpx.Handle(kit, httpx.Op{ID: "image-list", Method: http.MethodGet, Path: "/api/v1/images", Permission: "image:read", Owned: true,
		Summary: "List images, newest first", Tag: "images", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			after, err := httpx.ParseCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			images, err := a.svc.ListImages(ctx, in.Name, after, in.Limit+1)
			if err != nil {
				return nil, err
			}
			return &listOutput{Body: httpx.PageOf(images, in.Limit, func(i vm.Image) httpx.Cursor { return httpx.Cursor{CreatedAt: i.CreatedAt, ID: i.ID} })}, nil
		})

	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the image."`
	}
	type getOutput struct{ Body vm.Image }
	httpx.Handle(kit, httpx.Op{ID: "image-get", Method: http.MethodGet, Path: "/api/v1/images/{id}", Permission: "image:read", Owned: true,
		Summary: "Read an image", Tag: "images", Errors: []*errs.Error{vm.ErrImageNotFound}},
		func(ctx context.Context, in *Path) (*getOutput, error) {
			image, err := a.svc.GetImage(ctx, in.ID)
			return &getOutput{Body: image}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "image-delete", Method: http.MethodDelete, Path: "/api/v1/images/{id}", Permission: "image:delete", Owned: true,
		Summary: "Delete an image that no virtual machine was made from", Tag: "images", Status: http.StatusNoContent,
		Errors: []*errs.Error{vm.ErrImageNotFound, vm.ErrImageInUse, operation.ErrLocked}},
		func(ctx context.Context, in *Path) (*struct{}, error) {
			return nil, a.svc.DeleteImage(ctx, in.ID)
		})
}

var checksumRule = regexp.MustCompile(`^(sha256:)?[0-9a-fA-F]{64}$`)

// uploadImage streams the body to disk; it is never held in memory.
func (a *API) uploadImage(w http.ResponseWriter, r *http.Request) {
	body, err := uploadBody(r)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	up, err := uploadParams(r)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // an upload may take as long as it keeps coming
	up.Body = body
	image, err := a.svc.ReceiveImage(r.Context(), up)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/api/v1/images/"+image.ID.String())
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(image) // the client may be gone
}

func uploadParams(r *http.Request) (service.Upload, error) {
	q := r.URL.Query()
	e := httpx.ErrInvalid
	for name := range q {
		if name != "name" && name != "format" && name != "checksum" {
			e = e.WithField("query."+name, "unknown query parameter", "")
		}
	}
	name, format, checksum := q.Get("name"), q.Get("format"), q.Get("checksum")
	if n := utf8.RuneCountInString(name); n == 0 || n > 255 || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		e = e.WithField("query.name", "must have 1 to 255 characters, none of them a control character", name)
	}
	if format != "" && format != "qcow2" && format != "raw" {
		e = e.WithField("query.format", "must be qcow2 or raw", format)
	}
	if checksum != "" && !checksumRule.MatchString(checksum) {
		e = e.WithField("query.checksum", "must be sha256: and 64 hexadecimal digits", checksum)
	}
	if len(e.Fields) > 0 {
		return service.Upload{}, e
	}
	return service.Upload{Name: name, Format: format, Checksum: strings.ToLower(checksum)}, nil
}

// uploadBody gives the image's bytes: the body itself, or the one file of a form.
func uploadBody(r *http.Request) (io.Reader, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/octet-stream":
		return r.Body, nil
	case err == nil && kind == "multipart/form-data":
		form, err := r.MultipartReader()
		if err != nil {
			return nil, httpx.ErrMalformed.WithMessage("the form could not be read").Wrap(err)
		}
		for {
			part, err := form.NextPart()
			if err == io.EOF {
				return nil, vm.ErrImageInvalid.WithMessage("the form has no file")
			}
			if err != nil {
				return nil, httpx.ErrMalformed.WithMessage("the form could not be read").Wrap(err)
			}
			if part.FileName() != "" || part.FormName() == "file" {
				return part, nil
			}
		}
	default:
		return nil, httpx.ErrUnsupportedMedia.WithMessage("an image is sent as application/octet-stream or multipart/form-data")
	}
}
