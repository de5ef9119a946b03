package bus

import (
	"fmt"
	"strings"
)

// maxSubject bounds a subject's length in bytes, well under the 4096 that a NATS server takes in a whole protocol line
// (https://docs.nats.io/running-a-nats-service/configuration, max_control_line).
const maxSubject = 1024

// ValidSubject tells whether a subject can be published on: non-empty tokens between dots, no wildcard, no white space or control
// character. The error is an ErrInvalidSubject.
func ValidSubject(subject string) error { return valid(subject, false) }

// ValidPattern tells whether a subject can be subscribed to: as ValidSubject, and a token may be "*", the last one ">".
func ValidPattern(pattern string) error { return valid(pattern, true) }

// valid is stricter than NATS, which takes a "*" or ">" inside a longer token literally: such a subject is a mistake.
func valid(subject string, wildcards bool) error {
	if len(subject) > maxSubject {
		return ErrInvalidSubject.Wrap(fmt.Errorf("subject has %d bytes", len(subject)))
	}
	token := 0 // where the current one begins
	for i := 0; i <= len(subject); i++ {
		end := i == len(subject)
		if !end && subject[i] != '.' {
			switch c := subject[i]; {
			case c <= ' ', c == 0x7f:
				return invalid(subject)
			case c != '*' && c != '>':
			case !wildcards || i != token: // not a token of its own
				return invalid(subject)
			case c == '>' && i+1 != len(subject): // not the last one
				return invalid(subject)
			case i+1 < len(subject) && subject[i+1] != '.': // not a token of its own
				return invalid(subject)
			}
			continue
		}
		if i == token {
			return invalid(subject)
		}
		token = i + 1
	}
	return nil
}

// ValidQueue tells whether a queue group can have a name, which travels in NATS' protocol lines and therefore holds no white space or
// control character. No name at all means no group.
func ValidQueue(queue string) error {
	if len(queue) > maxSubject || strings.ContainsFunc(queue, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ErrInvalidSubject.WithMessage("the name of the queue group holds white space or is too long").Wrap(fmt.Errorf("queue group %q", queue))
	}
	return nil
}

func invalid(subject string) error { return ErrInvalidSubject.Wrap(fmt.Errorf("subject %q", subject)) }

// Match tells whether a valid pattern covers a valid subject. Of anything else it may say what it likes, but does not panic.
func Match(pattern, subject string) bool {
	for {
		want, restWant, moreWant := strings.Cut(pattern, ".")
		have, restHave, moreHave := strings.Cut(subject, ".")
		switch {
		case want == ">":
			return have != ""
		case want != "*" && want != have:
			return false
		case !moreWant || !moreHave:
			return moreWant == moreHave
		}
		pattern, subject = restWant, restHave
	}
}
