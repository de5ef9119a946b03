package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// The headers of an upload in parts are those of the tus protocol (https://tus.io/protocols/resumable-upload), version 1.0.0.
const (
	headerOffset = "Upload-Offset"
	headerLength = "Upload-Length"
)

func (a *API) registerParts(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "image-upload-offset", Method: http.MethodHead, Path: "/api/v1/images/{id}/content", Permission: "image:create", Owned: true,
		Summary: "Ask how much of an upload in parts has arrived", Tag: "images", Errors: []*errs.Error{vm.ErrImageNotFound},
		Description: "`Upload-Offset` says how many bytes have arrived and `Upload-Length` how many there are. What has arrived survives the end of a connection and of the server."},
		httpx.RawDoc{AnswerText: "Nothing but headers."}, a.uploadOffset)
	kit.Raw(httpx.Op{ID: "image-upload-part", Method: http.MethodPatch, Path: "/api/v1/images/{id}/content", Permission: "image:create", Owned: true,
		Summary: "Send a part of an upload", Tag: "images", MaxBody: a.cfg.MaxImageBytes,
		Description: "The part begins at `Upload-Offset` (or at the first byte of `Content-Range`), which must be where the upload ends. What arrives before a connection breaks stays. " +
			"The part that completes the upload begins the import; if the whole is refused then, nothing of it is left.",
		Errors: []*errs.Error{vm.ErrImageNotFound, vm.ErrImageOffset, vm.ErrImageUploadBusy, vm.ErrImageNotUploading, vm.ErrImageInvalid, vm.ErrImageRefused, vm.ErrImageTooLarge,
			vm.ErrImageChecksum, nodeapi.ErrStorageFull}},
		httpx.RawDoc{RequestType: "application/octet-stream", AnswerType: "application/json", AnswerText: "The image, which is importing once it has arrived whole.",
			Parameters: []httpx.RawParam{
				{In: "header", Name: headerOffset, Description: "Where the part begins, in bytes.", Example: "1048576"},
				{In: "header", Name: "Content-Range", Description: "Says the same: bytes FIRST-LAST/SIZE.", Example: "bytes 1048576-2097151/4194304"},
			}}, a.uploadPart)
}

// createImage serves POST with a JSON body.
func (a *API) createImage(w http.ResponseWriter, r *http.Request) {
	up, err := readImageCreate(w, r)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	if up.URL == "" {
		image, err := a.svc.BeginUpload(r.Context(), up)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		w.Header().Set("Location", "/api/v1/images/"+image.ID.String())
		w.Header().Set(headerOffset, "0")
		writeJSON(w, http.StatusCreated, image)
		return
	}
	up.IdempotencyKey = idempotent.Key(r.Context())
	op, err := a.svc.FetchImage(r.Context(), up)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	answer, err := a.answer(r.Context(), op, WaitParams{Wait: r.URL.Query().Get("wait"), Prefer: r.Header.Get("Prefer")})
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Location", answer.Location)
	setApplied(w, answer.Applied)
	writeJSON(w, answer.Status, answer.Body)
}

var waitRule = regexp.MustCompile(`^[0-9]{1,4}(s|m)?$`)

func readImageCreate(w http.ResponseWriter, r *http.Request) (service.Upload, error) {
	e := httpx.ErrInvalid
	for name := range r.URL.Query() {
		if name != "wait" {
			e = e.WithField("query."+name, "is no parameter where the body is JSON", "")
		}
	}
	if wait := r.URL.Query().Get("wait"); wait != "" && !waitRule.MatchString(wait) {
		e = e.WithField("query.wait", "must be a time like 30s", wait)
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, httpx.DefaultMaxBody))
	decoder.DisallowUnknownFields()
	var body ImageCreate
	if err := decoder.Decode(&body); err != nil {
		return service.Upload{}, decodeError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return service.Upload{}, httpx.ErrMalformed.WithMessage("the body holds more than one JSON value")
	}
	up := service.Upload{Name: body.Name, Kind: body.Kind, Format: body.Format, Checksum: strings.ToLower(body.Checksum), Visibility: body.Visibility,
		SharedWith: body.SharedWith, Size: body.SizeBytes, URL: body.URL}
	e = checkUpload(e, "body.", up)
	switch {
	case body.URL != "" && body.SizeBytes != 0:
		e = e.WithField("body.size_bytes", "goes with parts that follow, not with url", "")
	case body.URL == "" && body.SizeBytes <= 0:
		e = e.WithField("body.url", "is required, or size_bytes above 0 where the bytes follow in parts", "")
	}
	if len(e.Fields) > 0 {
		return service.Upload{}, e
	}
	return up, nil
}

// decodeError tells a body that is no JSON from one with the wrong fields.
func decodeError(err error) error {
	var wrong *json.UnmarshalTypeError
	var large *http.MaxBytesError
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return httpx.ErrInvalid.WithField("body."+strings.Trim(field, `"`), "unexpected property", "")
	}
	switch {
	case errors.As(err, &wrong):
		return httpx.ErrInvalid.WithField("body."+wrong.Field, "is of the wrong type", wrong.Value)
	case errors.As(err, &large):
		return httpx.ErrTooLarge
	case strings.Contains(err.Error(), "UUID"):
		return httpx.ErrInvalid.WithField("body.shared_with", "must hold ids of tenants", "")
	}
	return httpx.ErrMalformed.WithMessage("the body is not JSON").Wrap(err)
}

func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		return id, httpx.ErrInvalid.WithField("path.id", "must be a UUID", chi.URLParam(r, "id"))
	}
	return id, nil
}

func (a *API) uploadOffset(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err == nil {
		var offset, size int64
		if offset, size, err = a.svc.UploadOffset(r.Context(), id); err == nil {
			w.Header().Set(headerOffset, strconv.FormatInt(offset, 10))
			w.Header().Set(headerLength, strconv.FormatInt(size, 10))
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusOK)
			return
		}
	}
	httpx.WriteError(w, r, err)
}

func (a *API) uploadPart(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err == nil { // who may not know the image learns nothing from what else is wrong
		_, _, err = a.svc.UploadOffset(r.Context(), id)
	}
	if err == nil {
		var offset int64
		if offset, err = partOffset(r); err == nil {
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a part may take as long as it keeps coming
			var image vm.Image
			if image, err = a.svc.ReceivePart(r.Context(), id, offset, r.Body); err == nil {
				done := image.ReceivedBytes
				if image.Status != vm.ImageUploading {
					done = image.DeclaredBytes
				}
				w.Header().Set(headerOffset, strconv.FormatInt(done, 10))
				writeJSON(w, http.StatusOK, image)
				return
			}
		}
	}
	httpx.WriteError(w, r, err)
}

var rangeRule = regexp.MustCompile(`^bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)$`)

// partOffset reads where a part begins.
func partOffset(r *http.Request) (int64, error) {
	switch kind := r.Header.Get("Content-Type"); kind {
	case "application/octet-stream", "application/offset+octet-stream":
	default:
		return 0, httpx.ErrUnsupportedMedia.WithMessage("a part is sent as application/octet-stream")
	}
	text := r.Header.Get(headerOffset)
	if text == "" {
		if m := rangeRule.FindStringSubmatch(r.Header.Get("Content-Range")); m != nil {
			text = m[1]
		}
	}
	offset, err := strconv.ParseInt(text, 10, 64)
	if err != nil || offset < 0 {
		return 0, httpx.ErrInvalid.WithField("header."+headerOffset, "must say where the part begins, in bytes; Content-Range may say it instead", text)
	}
	return offset, nil
}
