package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// ImageCreate is the body that imports an image from an address, or begins an upload in parts.
type ImageCreate struct {
	Name      string `json:"name"`
	URL       string `json:"url,omitempty"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Format    string `json:"format,omitempty"`
	Checksum  string `json:"checksum,omitempty"`
}

// ImageUpdate is the body that changes an image; nil leaves as it is.
type ImageUpdate struct {
	Name       *string      `json:"name,omitempty"`
	Visibility *string      `json:"visibility,omitempty"`
	SharedWith *[]uuid.UUID `json:"shared_with,omitempty"`
}

// ImportImage begins to import an image from an address. The image is the operation's target.
func (c *Client) ImportImage(ctx context.Context, body ImageCreate) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/images", body)
}

// BeginUpload makes an image whose bytes SendParts sends.
func (c *Client) BeginUpload(ctx context.Context, body ImageCreate) (Object[vm.Image], error) {
	return post[vm.Image](ctx, c, "/api/v1/images", body)
}

// UpdateImage changes an image.
func (c *Client) UpdateImage(ctx context.Context, id uuid.UUID, body ImageUpdate) (Object[vm.Image], error) {
	var image Object[vm.Image]
	err := c.json(ctx, call{method: http.MethodPatch, path: "/api/v1/images/" + id.String(), body: body}, &image)
	return image, err
}

// UploadOffset asks how much of an upload in parts has arrived, and how much there is.
func (c *Client) UploadOffset(ctx context.Context, id uuid.UUID) (offset, size int64, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodHead, path: "/api/v1/images/" + id.String() + "/content"})
	if err != nil {
		return 0, 0, err
	}
	_ = resp.Body.Close() // it has none
	offset, err = strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err == nil {
		size, err = strconv.ParseInt(resp.Header.Get("Upload-Length"), 10, 64)
	}
	if err != nil {
		return 0, 0, protocolError("the server does not say how far the upload is")
	}
	return offset, size, nil
}

// How an upload in parts goes on: each part is its own request, so that little is lost with one, and what does not get on is given up.
const (
	partSize   = 64 << 20
	partTries  = 8
	partPause  = time.Second
	partLonger = 15 * time.Second
)

// SendParts sends what is missing of an upload in parts, and begins where it is. After a failure that may pass it asks how far it is and goes on.
func (c *Client) SendParts(ctx context.Context, id uuid.UUID, from io.ReaderAt, size int64, progress func(sent int64)) (Object[vm.Image], error) {
	var image Object[vm.Image]
	var failed error
	pause := partPause
	for try := 0; try < partTries; try++ {
		if try > 0 {
			if err := sleep(ctx, pause); err != nil {
				return image, ended(ctx)
			}
			pause = min(2*pause, partLonger)
		}
		offset, all, err := c.UploadOffset(ctx, id)
		if err != nil {
			if failed = err; passes(err) {
				continue
			}
			return image, err
		}
		if all != size {
			return image, protocolError("the upload was begun for %d bytes, and the file has %d", all, size)
		}
		before := offset
		for {
			length := min(partSize, size-offset)
			part := &upload{from: io.NewSectionReader(from, offset, length), size: length, progress: func(n int64) {
				if progress != nil {
					progress(offset + n)
				}
			}}
			image = Object[vm.Image]{}
			err = c.json(ctx, call{method: http.MethodPatch, path: "/api/v1/images/" + id.String() + "/content",
				query: url.Values{}, upload: part, header: http.Header{"Upload-Offset": {strconv.FormatInt(offset, 10)}}}, &image)
			if err != nil {
				break
			}
			if offset += length; image.Value.Status != vm.ImageUploading {
				return image, nil
			}
		}
		if failed = err; !passes(err) {
			return image, err
		}
		if offset > before {
			try, pause = 0, partPause
		}
	}
	return image, fmt.Errorf("the upload of image %s does not get on; go on later with --resume: %w", id, failed)
}

// passes tells a failure that another try may not meet again. Unlike elsewhere, a server that is not there may be on its way back.
func passes(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Retryable || e.Status == 0 && e.Code == CodeUnreachable || e.Code == "image.wrong_offset" || e.Status == http.StatusBadGateway)
}

// InsertDisc puts an ISO image into the drive of a virtual machine.
func (c *Client) InsertDisc(ctx context.Context, machine, image uuid.UUID) (Object[vm.VM], error) {
	var m Object[vm.VM]
	err := c.json(ctx, call{method: http.MethodPut, path: "/api/v1/vms/" + machine.String() + "/cdrom", body: map[string]uuid.UUID{"image_id": image}}, &m)
	return m, err
}

// EjectDisc takes the disc out of the drive of a virtual machine.
func (c *Client) EjectDisc(ctx context.Context, machine uuid.UUID) (Object[vm.VM], error) {
	var m Object[vm.VM]
	err := c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/vms/" + machine.String() + "/cdrom"}, &m)
	return m, err
}
