// Package grpcx is what every gRPC contract shares: errors that come out as they went in, and servers and clients over mutual TLS with request
// ids, the principals that calls are made for, traces and deadlines. Only *grpc packages and the composition root use it.
package grpcx

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/novacron/novacron/internal/platform/errs"
)

// domain is that of google.rpc.ErrorInfo.
const domain = "novacron"

// wholeError is the key under which ErrorInfo carries everything that is public of an error, as errs.Encode writes it. Clients of other makers
// read reason and the other metadata.
const wholeError = "novacron-error"

// Code gives the gRPC code of a kind. It is the only such table.
func Code(k errs.Kind) codes.Code {
	switch k {
	case errs.Malformed, errs.Invalid, errs.UnsupportedMedia:
		return codes.InvalidArgument
	case errs.Unauthenticated:
		return codes.Unauthenticated
	case errs.Forbidden:
		return codes.PermissionDenied
	case errs.NotFound, errs.Gone:
		return codes.NotFound
	case errs.MethodNotAllowed:
		return codes.Unimplemented
	case errs.Conflict, errs.Locked:
		return codes.FailedPrecondition
	case errs.Precondition:
		return codes.Aborted
	case errs.TooLarge, errs.Throttled:
		return codes.ResourceExhausted
	case errs.Unavailable:
		return codes.Unavailable
	case errs.Deadline:
		return codes.DeadlineExceeded
	default:
		return codes.Internal
	}
}

// ErrUnreachable is why a call failed that got no answer of the other side.
var ErrUnreachable = errs.New(errs.Unavailable, "internal.unreachable", "a module in another process cannot be reached").
	WithAction("Try again in a moment; the operator finds the cause in the log.")

// ErrRefused is why a call failed that the other side did not take from this process. To whoever it was made for that is no refusal of theirs.
var ErrRefused = errs.New(errs.Unavailable, "internal.refused", "a module in another process does not accept calls of this one").
	WithAction("The operator checks the certificates that internal.cert_file and internal.ca_file name.")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrUnreachable, ErrRefused, ErrMessage} }

// ToStatus turns an error into what travels. The cause stays behind.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	e := errs.From(err)
	info := &errdetails.ErrorInfo{Reason: e.Code, Domain: domain, Metadata: map[string]string{wholeError: string(errs.Encode(e))}}
	for name, value := range e.Meta {
		info.Metadata[name] = value
	}
	st := status.New(Code(e.Kind), e.Message)
	if with, dErr := st.WithDetails(info); dErr == nil {
		st = with
	}
	return st.Err()
}

// FromStatus gives the error that ToStatus was given on the other side, and otherwise one that says that there was no answer.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return ErrUnreachable.Wrap(err)
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			if info.GetReason() == ErrRefused.Code {
				return ErrRefused.Wrap(err)
			}
			if text := info.GetMetadata()[wholeError]; text != "" {
				return errs.Decode([]byte(text))
			}
		}
	}
	switch st.Code() {
	case codes.Canceled:
		return fmt.Errorf("call was given up: %w", errors.Join(context.Canceled, err))
	case codes.DeadlineExceeded:
		return ErrUnreachable.WithMessage("a module in another process did not answer in time").Wrap(errors.Join(context.DeadlineExceeded, err))
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return ErrRefused.Wrap(err)
	default:
		return ErrUnreachable.Wrap(err)
	}
}
