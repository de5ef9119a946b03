package bus

import "github.com/google/uuid"

// The subjects that modules publish on. "<id>" subjects are made by the functions below.
const (
	SubjectVMEvents           = "vm.events"
	SubjectVMObjects          = "vm.objects" // volumes, snapshots, images, networks and what else the vm module keeps beside machines
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
	SubjectAuditIntake        = "audit.intake" // request/reply: records of modules without a database

	// SubjectNodeReports matches the reports of every node.
	SubjectNodeReports = "vm.node.*.report"
)

// SubjectNodeCommand is where a node takes commands, by request/reply.
func SubjectNodeCommand(node uuid.UUID) string { return "vm.node." + node.String() + ".cmd" }

// SubjectNodeReport is where a node reports changes, by request/reply.
func SubjectNodeReport(node uuid.UUID) string { return "vm.node." + node.String() + ".report" }

// SubjectTenantObjects is where a module tells what it has of a tenant, by request/reply.
func SubjectTenantObjects(module string) string { return "tenant.objects." + module }

// ReplaySubject is where the publisher of a subject answers requests for events that a subscriber missed.
func ReplaySubject(subject string) string { return subject + ".replay" }
