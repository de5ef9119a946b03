package vm

import (
	"time"

	"github.com/google/uuid"
)

// Status is how a virtual machine is, in short: what dashboards and whoever waits ask for again and again.
type Status struct {
	ID           uuid.UUID      `json:"id" format:"uuid"`
	Name         string         `json:"name" example:"web-1"`
	State        State          `json:"state" enum:"creating,running,stopped,paused,migrating,error" example:"running"`
	DesiredState Desired        `json:"desired_state" enum:"running,stopped,paused,deleted" doc:"What was asked for last."`
	Suspended    bool           `json:"suspended" doc:"It is stopped with its memory saved to disk."`
	OperationID  *uuid.UUID     `json:"operation_id,omitempty" doc:"The operation at work on it, if any."`
	NodeID       *uuid.UUID     `json:"node_id,omitempty" doc:"The hypervisor node that holds it."`
	Observed     StatusObserved `json:"observed" doc:"What the node saw last."`
	Addresses    []string       `json:"addresses" nullable:"false" doc:"Of all its interfaces, as far as they are known." example:"[\"10.100.0.5\"]"`
	ReadyAt      *time.Time     `json:"ready_at,omitempty" doc:"When its guest told, since it came on, that it is set up."`
	ErrorCode    string         `json:"error_code,omitempty" doc:"Why it is in state error, or why the last operation failed." example:"vm.vanished"`
	Generation   int64          `json:"generation" doc:"Grows with every request that changes it."`
	Revision     int64          `json:"revision" doc:"Grows with every change, whoever makes it."`
	TenantID     uuid.UUID      `json:"tenant_id"`
	OwnerID      uuid.UUID      `json:"owner_id"`
	Usage        *StatusUsage   `json:"usage,omitempty" doc:"Of the latest sample, where it is on and was measured."`
	AsOf         time.Time      `json:"as_of" doc:"When it was read from the database: at least what was so then, and at most 5 seconds ago."`
}

// StatusObserved is what a node saw of it last.
type StatusObserved struct {
	Observed
	Epoch int64 `json:"epoch" doc:"Grows each time that the node's service starts."`
}

// StatusUsage is the headline of a sample.
type StatusUsage struct {
	CPUUsage    *float64  `json:"cpu_usage,omitempty" doc:"Percent of its virtual CPUs."`
	MemoryUsage *float64  `json:"memory_usage,omitempty" doc:"Percent of its memory, as the guest tells."`
	Time        time.Time `json:"time"`
}
