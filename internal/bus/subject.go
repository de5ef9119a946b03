package bus

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// The subjects that modules publish on. "<id>" subjects are made by the functions below.
const (
	SubjectVMEvents           = "vm.events"
	SubjectVMMetrics          = "vm.metrics"
	SubjectNodeHeartbeat      = "node.heartbeat"
	SubjectMigrationEvents    = "migration.events"
	SubjectProviderHealth     = "provider.health"
	SubjectAlerts             = "alerts"
	SubjectSystemHealth       = "system.health"
	SubjectSchedulerDecisions = "scheduler.decisions"
	SubjectAuditEvents        = "audit.events"
	SubjectAuthEvents         = "auth.events"
	SubjectAuditRecords       = "audit.records"

	// SubjectNodeReports matches the reports of every node.
	SubjectNodeReports = "vm.node.*.report"
)

// SubjectNodeCommand is where a node takes commands, by request/reply.
func SubjectNodeCommand(node uuid.UUID) string { return "vm.node." + node.String() + ".cmd" }

// SubjectNodeReport is where a node reports changes, by request/reply.
func SubjectNodeReport(node uuid.UUID) string { return "vm.node." + node.String() + ".report" }

// ReplaySubject is where the publisher of a subject answers requests for events that a subscriber missed.
func ReplaySubject(subject string) string { return subject + ".replay" }

// maxSubject bounds a subject's length in bytes, well under what a NATS server takes in a protocol line.
const maxSubject = 1024

// ValidSubject tells whether a subject can be published on: non-empty tokens between dots, no wildcard, no white space.
func ValidSubject(subject string) error { return valid(subject, false) }

// ValidPattern tells whether a subject can be subscribed to: as ValidSubject, and a token may be "*", the last one ">".
func ValidPattern(pattern string) error { return valid(pattern, true) }

func valid(subject string, wildcards bool) error {
	if len(subject) > maxSubject {
		return ErrInvalidSubject.Wrap(fmt.Errorf("subject has %d bytes", len(subject)))
	}
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		last := i == len(tokens)-1
		switch {
		case token == "",
			strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }),
			token == "*" && !wildcards,
			token == ">" && (!wildcards || !last),
			len(token) > 1 && strings.ContainsAny(token, "*>"):
			return ErrInvalidSubject.Wrap(fmt.Errorf("subject %q", subject))
		}
	}
	return nil
}

// Match tells whether a valid pattern covers a valid subject.
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
