package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// VMFixed is what a virtual machine shows and a PUT does not change, so that what was read can be sent back. It must be as it is.
// The names are those of vm.VM.
type VMFixed struct {
	ID             json.RawMessage `json:"id,omitempty" readOnly:"true" doc:"As it is, like all that is read-only and compared; another value is refused."`
	State          json.RawMessage `json:"state,omitempty" readOnly:"true" doc:"As it is; start, stop and so on change it."`
	DesiredState   json.RawMessage `json:"desired_state,omitempty" readOnly:"true" doc:"As it is."`
	HypervisorType json.RawMessage `json:"hypervisor_type,omitempty" readOnly:"true" doc:"As it is."`
	NodeID         json.RawMessage `json:"node_id,omitempty" readOnly:"true" doc:"As it is."`
	OwnerID        json.RawMessage `json:"owner_id,omitempty" readOnly:"true" doc:"As it is."`
	TenantID       json.RawMessage `json:"tenant_id,omitempty" readOnly:"true" doc:"As it is."`
	ImageID        json.RawMessage `json:"image_id,omitempty" readOnly:"true" doc:"As it is; rebuild changes it."`
	Flavor         json.RawMessage `json:"flavor,omitempty" readOnly:"true" doc:"As it is; resize changes it."`
	Resources      json.RawMessage `json:"resources,omitempty" readOnly:"true" doc:"As they are; resize changes them."`
	Networks       json.RawMessage `json:"networks,omitempty" readOnly:"true" doc:"As they are, but for what moves by itself; the routes of interfaces change them."`
	Disks          json.RawMessage `json:"disks,omitempty" readOnly:"true" doc:"As they are; the routes of disks change them."`
	CDROM          json.RawMessage `json:"cdrom,omitempty" readOnly:"true" doc:"As it is; the routes of the drive change it."`
	Suspended      json.RawMessage `json:"suspended,omitempty" readOnly:"true" doc:"As it is."`
	Rescue         json.RawMessage `json:"rescue,omitempty" readOnly:"true" doc:"As it is; rescue and unrescue change it."`
	Origin         json.RawMessage `json:"origin,omitempty" readOnly:"true" doc:"As it is."`
	CreatedAt      json.RawMessage `json:"created_at,omitempty" readOnly:"true" doc:"As it is, to the millisecond."`
}

// VMMoving is what a virtual machine shows and what changes by itself. It is not looked at.
type VMMoving struct {
	ReadyAt     json.RawMessage `json:"ready_at,omitempty" readOnly:"true" doc:"Not looked at, like all that changes by itself."`
	Pending     json.RawMessage `json:"pending,omitempty" readOnly:"true" doc:"Not looked at."`
	Observed    json.RawMessage `json:"observed,omitempty" readOnly:"true" doc:"Not looked at."`
	Generation  json.RawMessage `json:"generation,omitempty" readOnly:"true" doc:"Not looked at; If-Match is what keeps an edit from being lost."`
	OperationID json.RawMessage `json:"operation_id,omitempty" readOnly:"true" doc:"Not looked at."`
	Conditions  json.RawMessage `json:"conditions,omitempty" readOnly:"true" doc:"Not looked at."`
	Error       json.RawMessage `json:"error,omitempty" readOnly:"true" doc:"Not looked at."`
	UpdatedAt   json.RawMessage `json:"updated_at,omitempty" readOnly:"true" doc:"Not looked at."`
}

// check refuses what the machine is not.
func (f VMFixed) check(m vm.VM) error {
	given, now := reflect.ValueOf(f), reflect.ValueOf(m)
	var wrong *errs.Error
	for i := range given.NumField() {
		raw := given.Field(i).Bytes()
		field := given.Type().Field(i)
		if len(raw) == 0 || sameValue(raw, now.FieldByName(field.Name)) {
			continue
		}
		if wrong == nil {
			wrong = vm.ErrInvalid
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		wrong = wrong.WithField("body."+name, "is read-only and not what it is now; leave it out, or send what was read", string(raw))
	}
	if wrong == nil { // and not the pointer, which an error of nil would hold
		return nil
	}
	return wrong
}

// sameValue tells whether JSON says what a field of a machine is.
func sameValue(raw []byte, now reflect.Value) bool {
	said := reflect.New(now.Type())
	reader := json.NewDecoder(bytes.NewReader(raw))
	reader.DisallowUnknownFields()
	if reader.Decode(said.Interface()) != nil {
		return false
	}
	a, errA := json.Marshal(still(said.Elem().Interface()))
	b, errB := json.Marshal(still(now.Interface()))
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// still takes away what changes by itself, and what clients lose of a time.
func still(value any) any {
	switch v := value.(type) {
	case time.Time:
		return v.UTC().Truncate(time.Millisecond)
	case []vm.Interface:
		list := make([]vm.Interface, len(v))
		for i, n := range v {
			n.Addresses, n.OperationID = nil, nil
			list[i] = n
		}
		return list
	}
	return value
}

// put replaces what can be edited, once what cannot be is as the body says.
func (a *API) put(ctx context.Context, in VMEdit, body VMPut) (vm.VM, error) {
	if !reflect.ValueOf(body.VMFixed).IsZero() {
		m, err := a.svc.Get(ctx, in.ID)
		if err != nil {
			return vm.VM{}, err
		}
		if !in.same(m) {
			return vm.VM{}, vm.ErrVersion
		}
		if err := body.check(m); err != nil {
			return vm.VM{}, err
		}
	}
	return a.svc.Update(ctx, in.ID, in.same, followTime, body.apply)
}
