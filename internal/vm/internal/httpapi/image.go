package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
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

// ImageCreate asks for an image that is fetched from an address, or that follows in parts.
type ImageCreate struct {
	Name       string             `json:"name" minLength:"1" maxLength:"255" example:"debian-12"`
	URL        string             `json:"url,omitempty" maxLength:"4096" doc:"Fetch it from here: an http or https address that the configuration allows." example:"https://images.example.org/debian-12.qcow2"`
	SizeBytes  int64              `json:"size_bytes,omitempty" minimum:"1" doc:"Without url: how many bytes will follow in parts."`
	Kind       vm.ImageKind       `json:"kind,omitempty" enum:"disk,iso,kernel,initrd" doc:"What it is to be; without it the header tells disk from iso."`
	Format     string             `json:"format,omitempty" enum:"qcow2,raw,vmdk,vhdx,iso,kernel,initrd" doc:"What it is said to be; the header decides, and a contradiction is refused."`
	Checksum   string             `json:"checksum,omitempty" pattern:"^(sha256:)?[0-9a-fA-F]{64}$" doc:"sha256:<hex> of the bytes."`
	Visibility vm.ImageVisibility `json:"visibility,omitempty" enum:"private,shared,public"`
	SharedWith []uuid.UUID        `json:"shared_with,omitempty" maxItems:"256"`
}

func (a *API) registerImages(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "image-upload", Method: http.MethodPost, Path: "/api/v1/images", Permission: "image:create", Owned: true,
		Summary: "Upload an image, begin an upload in parts, or import one from an address", Tag: "images", Status: http.StatusCreated, MaxBody: a.cfg.MaxImageBytes,
		Description: "The body is the image itself (`application/octet-stream`), or a form with one file (`multipart/form-data`), where the parameters may be fields before the file instead. Formats: qcow2, raw, vmdk, vhdx and ISO, told by the " +
			"header; kernels and initrds where `kind` says so. An image that refers to other files (backing file, external data file, extents, parent) is refused before any tool opens it. " +
			"Answers with the image, which is `importing` until it has been converted; virtual machines may be created from it at once. " +
			"With a JSON body and `url` the image is fetched, and the answer is 202 with the operation, or 200 when it has ended within `wait`. With a JSON body and `size_bytes` the " +
			"answer is an image in status `uploading`, whose parts follow by PATCH to its `content`.",
		Errors: []*errs.Error{vm.ErrImageInvalid, vm.ErrImageRefused, vm.ErrImageTooLarge, vm.ErrImageChecksum, vm.ErrImageURL, nodeapi.ErrStorageFull}},
		httpx.RawDoc{RequestType: "application/octet-stream", AnswerType: "application/json", AnswerText: "The image.", JSON: ImageCreate{},
			Answers: map[int]string{http.StatusAccepted: "The operation that fetches the image.", http.StatusOK: "That operation, where it has ended within the time to wait."},
			Parameters: []httpx.RawParam{
				{In: "query", Name: "name", Description: "Name of the image, 1 to 255 characters. Needed unless the body is JSON.", Example: "debian-12"},
				{In: "query", Name: "kind", Description: "disk, iso, kernel or initrd; without it the header tells disk from iso.", Example: "disk"},
				{In: "query", Name: "format", Description: "qcow2, raw, vmdk, vhdx or iso. The header decides; a contradiction is refused.", Example: "qcow2"},
				{In: "query", Name: "checksum", Description: "sha256:<hex> of the bytes.", Example: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
				{In: "query", Name: "visibility", Description: "private, shared or public; public needs image:update on the platform.", Example: "private"},
				{In: "query", Name: "wait", Description: "Hold the answer until the operation has ended or this time is up, 5 minutes at most.", Example: "30s"},
			}}, a.uploadImage)
	a.registerParts(kit)

	type listInput struct {
		httpx.PageParams
		Name       string `query:"name" maxLength:"255" doc:"Only those of this name."`
		Kind       string `query:"kind" enum:"disk,iso,kernel,initrd" doc:"Only those of this kind."`
		Visibility string `query:"visibility" enum:"private,shared,public" doc:"Only those of this visibility."`
		Own        bool   `query:"own" doc:"Only those of the tenant itself, without what others let it use."`
	}
	type listOutput struct{ Body httpx.Page[vm.Image] }
	httpx.Handle(kit, httpx.Op{ID: "image-list", Method: http.MethodGet, Path: "/api/v1/images", Permission: "image:read", Owned: true,
		Summary: "List images, newest first: those of the tenant, those that others share with it, and public ones", Tag: "images", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(i vm.Image) httpx.Cursor { return httpx.Cursor{CreatedAt: i.CreatedAt, ID: i.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Image, error) {
					return a.svc.ListImages(ctx, service.ImageFilter{Name: in.Name, Kind: in.Kind, Visibility: in.Visibility, Own: in.Own}, after, limit)
				})
			return &listOutput{Body: page}, err
		})

	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the image."`
	}
	type getOutput struct {
		ETag string `header:"ETag"`
		Body vm.Image
	}
	httpx.Handle(kit, httpx.Op{ID: "image-get", Method: http.MethodGet, Path: "/api/v1/images/{id}", Permission: "image:read", Owned: true,
		Summary: "Read an image", Tag: "images", Errors: []*errs.Error{vm.ErrImageNotFound}},
		func(ctx context.Context, in *Path) (*getOutput, error) {
			image, err := a.svc.GetImage(ctx, in.ID)
			return &getOutput{ETag: imageETag(image), Body: image}, err
		})
	type ImagePatch struct {
		Name       *string             `json:"name,omitempty" minLength:"1" maxLength:"255"`
		Visibility *vm.ImageVisibility `json:"visibility,omitempty" enum:"private,shared,public" doc:"To make an image public, or take it back, needs image:update on the platform."`
		SharedWith *[]uuid.UUID        `json:"shared_with,omitempty" maxItems:"256" doc:"Replaces the list of tenants that may use it while visibility is shared."`
	}
	type patchInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the version that is to be changed."`
		Body    ImagePatch
	}
	httpx.Handle(kit, httpx.Op{ID: "image-update", Method: http.MethodPatch, Path: "/api/v1/images/{id}", Permission: "image:update", Owned: true,
		Summary: "Rename an image, or say who may use it", Tag: "images",
		Description: "Machines and volumes that were made from an image keep it when it is not shared any more. Whether the tenants of `shared_with` exist is not told.",
		Errors:      []*errs.Error{vm.ErrImageNotFound, vm.ErrImageVersion}},
		func(ctx context.Context, in *patchInput) (*getOutput, error) {
			if in.Body.Name != nil && !validImageName(*in.Body.Name) {
				return nil, httpx.ErrInvalid.WithField("body.name", imageNameRule, *in.Body.Name)
			}
			image, err := a.svc.UpdateImage(ctx, in.ID, func(i vm.Image) bool { return matches(in.IfMatch, imageETag(i)) },
				service.ImageEdit{Name: in.Body.Name, Visibility: in.Body.Visibility, SharedWith: in.Body.SharedWith})
			return &getOutput{ETag: imageETag(image), Body: image}, err
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "image-delete", Method: http.MethodDelete, Path: "/api/v1/images/{id}", Permission: "image:delete", Owned: true,
		Summary: "Delete an image that nothing uses, or give an upload in parts up", Tag: "images", Status: http.StatusNoContent,
		Errors: []*errs.Error{vm.ErrImageNotFound, vm.ErrImageInUse, vm.ErrImageVersion, operation.ErrLocked}},
		func(ctx context.Context, in *deleteInput) (*struct{}, error) {
			var version func(vm.Image) bool
			if in.IfMatch != "" {
				version = func(i vm.Image) bool { return matches(in.IfMatch, imageETag(i)) }
			}
			return nil, a.svc.DeleteImage(ctx, in.ID, version)
		})
}

var checksumRule = regexp.MustCompile(`^(sha256:)?[0-9a-fA-F]{64}$`)

func imageETag(i vm.Image) string { return fmt.Sprintf(`"%d-%s"`, i.Version, i.Status) }

const imageNameRule = "must have 1 to 255 characters, none of them a control character"

func validImageName(name string) bool {
	n := utf8.RuneCountInString(name)
	return n > 0 && n <= 255 && utf8.ValidString(name) && !strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// uploadImage streams the body to disk; it is never held in memory.
func (a *API) uploadImage(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "application/json" {
		a.createImage(w, r)
		return
	}
	q := r.URL.Query()
	body, err := uploadBody(r, q)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	up, err := uploadParams(q)
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
	if wait := (WaitParams{Wait: q.Get("wait"), Prefer: r.Header.Get("Prefer")}); image.OperationID != nil {
		if _, err := a.svc.Await(r.Context(), operation.Operation{ID: *image.OperationID}, wait.duration()); err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		setApplied(w, wait.applied())
		if now, err := a.svc.GetImage(r.Context(), image.ID); err == nil { // it may be deleted meanwhile, and was made all the same
			image = now
		}
	}
	w.Header().Set("Location", "/api/v1/images/"+image.ID.String())
	writeJSON(w, http.StatusCreated, image)
}

func setApplied(w http.ResponseWriter, preference string) {
	if preference != "" {
		w.Header().Set("Preference-Applied", preference)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func uploadParams(q url.Values) (service.Upload, error) {
	e := httpx.ErrInvalid
	for name, values := range q {
		switch {
		case !slices.Contains([]string{"name", "kind", "format", "checksum", "visibility", "wait"}, name):
			e = e.WithField("query."+name, "unknown query parameter", "")
		case len(values) > 1:
			e = e.WithField("query."+name, "is given more than once", "")
		}
	}
	if wait := q.Get("wait"); wait != "" && !waitRule.MatchString(wait) {
		e = e.WithField("query.wait", "must be a time like 30s", wait)
	}
	up := service.Upload{Name: q.Get("name"), Kind: vm.ImageKind(q.Get("kind")), Format: q.Get("format"), Checksum: strings.ToLower(q.Get("checksum")),
		Visibility: vm.ImageVisibility(q.Get("visibility"))}
	if e = checkUpload(e, "query.", up); len(e.Fields) > 0 {
		return service.Upload{}, e
	}
	return up, nil
}

// checkUpload adds what is wrong with an upload.
func checkUpload(e *errs.Error, at string, up service.Upload) *errs.Error {
	if !validImageName(up.Name) {
		e = e.WithField(at+"name", imageNameRule, up.Name)
	}
	for _, c := range []struct {
		field, value string
		of           []string
	}{
		{"kind", string(up.Kind), []string{"disk", "iso", "kernel", "initrd"}},
		{"format", up.Format, []string{"qcow2", "raw", "vmdk", "vhdx", "iso", "kernel", "initrd"}},
		{"visibility", string(up.Visibility), []string{"private", "shared", "public"}},
	} {
		if c.value != "" && !slices.Contains(c.of, c.value) {
			e = e.WithField(at+c.field, "must be one of "+strings.Join(c.of, ", "), c.value)
		}
	}
	if up.Checksum != "" && !checksumRule.MatchString(up.Checksum) {
		e = e.WithField(at+"checksum", "must be sha256: and 64 hexadecimal digits", up.Checksum)
	}
	if len(up.SharedWith) > 256 {
		e = e.WithField(at+"shared_with", "must be 256 at most", "")
	}
	return e
}

// The bounds of a form's fields before its file.
const (
	formField     = 4096 // bytes of each
	maxFormFields = 16
)

// uploadBody gives the image's bytes: the body itself, or the one file of a form. Fields before the file are added to the parameters.
func uploadBody(r *http.Request, q url.Values) (io.Reader, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/octet-stream":
		return r.Body, nil
	case err == nil && kind == "multipart/form-data":
		form, err := r.MultipartReader()
		if err != nil {
			return nil, httpx.ErrMalformed.WithMessage("the form could not be read").Wrap(err)
		}
		for fields := 0; ; {
			part, err := form.NextPart()
			if errors.Is(err, io.EOF) {
				return nil, vm.ErrImageInvalid.WithMessage("the form has no file")
			}
			if err != nil {
				return nil, httpx.ErrMalformed.WithMessage("the form could not be read").Wrap(err)
			}
			if part.FileName() != "" || part.FormName() == "file" {
				return part, nil
			}
			value, err := io.ReadAll(io.LimitReader(part, formField+1))
			if err != nil {
				return nil, httpx.ErrMalformed.WithMessage("the form could not be read").Wrap(err)
			}
			if fields++; len(value) > formField || fields > maxFormFields {
				return nil, httpx.ErrInvalid.WithField("body."+part.FormName(), "is too long, or one field too many", "")
			}
			q.Add(part.FormName(), string(value))
		}
	default:
		return nil, httpx.ErrUnsupportedMedia.WithMessage("an image is sent as application/octet-stream or multipart/form-data")
	}
}
