package errs

import "net/http"

// HTTPStatus gives the HTTP status of a kind. It is the only such table.
func HTTPStatus(k Kind) int {
	switch k {
	case Malformed:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case Conflict:
		return http.StatusConflict
	case Gone:
		return http.StatusGone
	case Precondition:
		return http.StatusPreconditionFailed
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case Invalid:
		return http.StatusUnprocessableEntity
	case Locked:
		return http.StatusLocked
	case Throttled:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	case Deadline:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// Problem is the RFC 9457 document that a failed request is answered with.
type Problem struct {
	Type      string            `json:"type" doc:"A URI reference that names the kind of problem." example:"/docs/errors#vm.not_found"`
	Title     string            `json:"title" doc:"The HTTP status in words." example:"Not Found"`
	Status    int               `json:"status" doc:"The HTTP status." example:"404"`
	Detail    string            `json:"detail" doc:"What failed, for people, and what to do about it."`
	Instance  string            `json:"instance,omitempty" doc:"The path of the request that failed."`
	Code      string            `json:"code" doc:"Stable code for programs." example:"vm.not_found"`
	Step      string            `json:"step,omitempty" doc:"The step of an operation in which it failed."`
	Action    string            `json:"action,omitempty" doc:"What to do about it."`
	RequestID string            `json:"request_id,omitempty" doc:"Quote it when you ask for help; it is in the server's log."`
	Retryable bool              `json:"retryable" doc:"The same request may succeed later, unchanged."`
	Errors    []Field           `json:"errors,omitempty" doc:"The parts of the request that failed validation."`
	Meta      map[string]string `json:"meta,omitempty" doc:"Further facts, by name."`
}

// ProblemOf makes the public document of an error. The cause stays behind.
func ProblemOf(err error, instance, requestID string) *Problem {
	e := From(err)
	status := HTTPStatus(e.Kind)
	return &Problem{
		Type: "/docs/errors#" + e.Code, Title: http.StatusText(status), Status: status, Detail: e.Message,
		Instance: instance, Code: e.Code, Step: e.Step, Action: e.Action, RequestID: requestID,
		Retryable: e.Retryable, Errors: e.Fields, Meta: e.Meta,
	}
}
