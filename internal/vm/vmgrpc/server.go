package vmgrpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc/vmpb"
)

// server serves a vm.Service. The processes that may call are told apart by their certificates, and are believed for whom they call; see package
// grpcx.
type server struct {
	vmpb.UnimplementedVMServiceServer
	s vm.Service
}

// Register adds the contract to a server.
func Register(r grpc.ServiceRegistrar, s vm.Service) {
	vmpb.RegisterVMServiceServer(r, server{s: s})
}

// CreateVM implements vmpb.VMServiceServer.
func (v server) CreateVM(ctx context.Context, req *vmpb.CreateVMRequest) (*vmpb.CreateVMResponse, error) {
	var d decoder
	in := d.createRequest(req)
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.CreateVM(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.CreateVMResponse{VmId: grpcx.ID(out.VMID), OperationId: grpcx.ID(out.OperationID)}, nil
}

// GetVMStatus implements vmpb.VMServiceServer.
func (v server) GetVMStatus(ctx context.Context, req *vmpb.GetVMStatusRequest) (*vmpb.GetVMStatusResponse, error) {
	var d decoder
	in := vm.GetVMStatusRequest{VMID: d.ID(req.GetVmId())}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.GetVMStatus(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.GetVMStatusResponse{Vm: machine(&out.VM)}, nil
}

// ListVMs implements vmpb.VMServiceServer.
func (v server) ListVMs(ctx context.Context, req *vmpb.ListVMsRequest) (*vmpb.ListVMsResponse, error) {
	var d decoder
	in := vm.ListVMsRequest{AfterID: d.ID(req.GetAfterId()), Limit: int(req.GetLimit()), AllTenants: req.GetAllTenants(), Name: req.GetName(), State: vm.State(req.GetState())}
	if after := req.GetAfterTime(); after != nil {
		in.AfterTime = after.AsTime()
	}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.ListVMs(ctx, in)
	if err != nil {
		return nil, err
	}
	list := &vmpb.ListVMsResponse{More: out.More}
	for i := range out.VMs {
		list.Vms = append(list.Vms, machine(&out.VMs[i]))
	}
	return list, nil
}

// StartVM implements vmpb.VMServiceServer.
func (v server) StartVM(ctx context.Context, req *vmpb.StartVMRequest) (*vmpb.StartVMResponse, error) {
	var d decoder
	in := vm.StartVMRequest{VMID: d.ID(req.GetVmId()), IdempotencyKey: req.GetIdempotencyKey()}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.StartVM(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.StartVMResponse{OperationId: grpcx.ID(out.OperationID)}, nil
}

// StopVM implements vmpb.VMServiceServer.
func (v server) StopVM(ctx context.Context, req *vmpb.StopVMRequest) (*vmpb.StopVMResponse, error) {
	var d decoder
	in := vm.StopVMRequest{VMID: d.ID(req.GetVmId()), Force: req.GetForce(), IdempotencyKey: req.GetIdempotencyKey()}
	if grace := req.GetGrace(); grace != nil {
		g := grace.AsDuration()
		in.Grace = &g
	}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.StopVM(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.StopVMResponse{OperationId: grpcx.ID(out.OperationID)}, nil
}

// DeleteVM implements vmpb.VMServiceServer.
func (v server) DeleteVM(ctx context.Context, req *vmpb.DeleteVMRequest) (*vmpb.DeleteVMResponse, error) {
	var d decoder
	in := vm.DeleteVMRequest{VMID: d.ID(req.GetVmId()), DeleteVolumes: req.GetDeleteVolumes()}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.DeleteVM(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.DeleteVMResponse{OperationId: grpcx.ID(out.OperationID)}, nil
}

// MigrateVM implements vmpb.VMServiceServer.
func (v server) MigrateVM(ctx context.Context, req *vmpb.MigrateVMRequest) (*vmpb.MigrateVMResponse, error) {
	var d decoder
	in := vm.MigrateVMRequest{VMID: d.ID(req.GetVmId()), NodeID: d.OptionalID(req.GetNodeId())}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.MigrateVM(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.MigrateVMResponse{OperationId: grpcx.ID(out.OperationID)}, nil
}

// GetOperation implements vmpb.VMServiceServer.
func (v server) GetOperation(ctx context.Context, req *vmpb.GetOperationRequest) (*vmpb.GetOperationResponse, error) {
	var d decoder
	in := vm.GetOperationRequest{OperationID: d.ID(req.GetOperationId()), Wait: req.GetWait().AsDuration()}
	if d.Err != nil {
		return nil, d.Err
	}
	out, err := v.s.GetOperation(ctx, in)
	if err != nil {
		return nil, err
	}
	return &vmpb.GetOperationResponse{Operation: operation(out.Operation)}, nil
}
