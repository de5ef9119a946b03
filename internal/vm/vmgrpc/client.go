package vmgrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc/vmpb"
)

// Client is a vm.Service in another process. Where that cannot be reached, every call fails with grpcx.ErrUnreachable, or with grpcx.ErrRefused where
// it does not take calls of this process.
type Client struct{ rpc vmpb.VMServiceClient }

var _ vm.Service = (*Client)(nil)

// NewClient makes a Client over a connection.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{rpc: vmpb.NewVMServiceClient(conn)}
}

// CreateVM implements vm.Service.
func (c *Client) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	resp, err := c.rpc.CreateVM(ctx, createRequest(req))
	if err != nil {
		return vm.CreateVMResponse{}, err
	}
	var d decoder
	out := vm.CreateVMResponse{VMID: d.ID(resp.GetVmId()), OperationID: d.ID(resp.GetOperationId())}
	return out, d.Err
}

// GetVMStatus implements vm.Service.
func (c *Client) GetVMStatus(ctx context.Context, req vm.GetVMStatusRequest) (vm.GetVMStatusResponse, error) {
	resp, err := c.rpc.GetVMStatus(ctx, &vmpb.GetVMStatusRequest{VmId: grpcx.ID(req.VMID)})
	if err != nil {
		return vm.GetVMStatusResponse{}, err
	}
	var d decoder
	out := vm.GetVMStatusResponse{VM: d.machine(resp.GetVm())}
	return out, d.Err
}

// ListVMs implements vm.Service.
func (c *Client) ListVMs(ctx context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
	out := &vmpb.ListVMsRequest{AfterId: grpcx.ID(req.AfterID), Limit: int64(req.Limit), AllTenants: req.AllTenants, Name: grpcx.Text(req.Name),
		State: grpcx.Text(string(req.State))}
	if !req.AfterTime.IsZero() {
		out.AfterTime = grpcx.Moment(&req.AfterTime)
	}
	resp, err := c.rpc.ListVMs(ctx, out)
	if err != nil {
		return vm.ListVMsResponse{}, err
	}
	var d decoder
	list := vm.ListVMsResponse{VMs: make([]vm.VM, len(resp.GetVms())), More: resp.GetMore()}
	for i, m := range resp.GetVms() {
		list.VMs[i] = d.machine(m)
	}
	return list, d.Err
}

// StartVM implements vm.Service.
func (c *Client) StartVM(ctx context.Context, req vm.StartVMRequest) (vm.StartVMResponse, error) {
	resp, err := c.rpc.StartVM(ctx, &vmpb.StartVMRequest{VmId: grpcx.ID(req.VMID), IdempotencyKey: grpcx.Text(req.IdempotencyKey)})
	if err != nil {
		return vm.StartVMResponse{}, err
	}
	var d decoder
	out := vm.StartVMResponse{OperationID: d.ID(resp.GetOperationId())}
	return out, d.Err
}

// StopVM implements vm.Service.
func (c *Client) StopVM(ctx context.Context, req vm.StopVMRequest) (vm.StopVMResponse, error) {
	out := &vmpb.StopVMRequest{VmId: grpcx.ID(req.VMID), Force: req.Force, IdempotencyKey: grpcx.Text(req.IdempotencyKey)}
	if req.Grace != nil {
		out.Grace = durationpb.New(*req.Grace)
	}
	resp, err := c.rpc.StopVM(ctx, out)
	if err != nil {
		return vm.StopVMResponse{}, err
	}
	var d decoder
	answer := vm.StopVMResponse{OperationID: d.ID(resp.GetOperationId())}
	return answer, d.Err
}

// DeleteVM implements vm.Service.
func (c *Client) DeleteVM(ctx context.Context, req vm.DeleteVMRequest) (vm.DeleteVMResponse, error) {
	resp, err := c.rpc.DeleteVM(ctx, &vmpb.DeleteVMRequest{VmId: grpcx.ID(req.VMID), DeleteVolumes: req.DeleteVolumes})
	if err != nil {
		return vm.DeleteVMResponse{}, err
	}
	var d decoder
	out := vm.DeleteVMResponse{OperationID: d.ID(resp.GetOperationId())}
	return out, d.Err
}

// MigrateVM implements vm.Service.
func (c *Client) MigrateVM(ctx context.Context, req vm.MigrateVMRequest) (vm.MigrateVMResponse, error) {
	resp, err := c.rpc.MigrateVM(ctx, &vmpb.MigrateVMRequest{VmId: grpcx.ID(req.VMID), NodeId: grpcx.OptionalID(req.NodeID)})
	if err != nil {
		return vm.MigrateVMResponse{}, err
	}
	var d decoder
	out := vm.MigrateVMResponse{OperationID: d.ID(resp.GetOperationId())}
	return out, d.Err
}

// GetOperation implements vm.Service. The call may take as long as it waits, and the usual time besides.
func (c *Client) GetOperation(ctx context.Context, req vm.GetOperationRequest) (vm.GetOperationResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, min(max(req.Wait, 0), vm.MaxWait)+grpcx.CallTimeout)
	defer cancel()
	resp, err := c.rpc.GetOperation(ctx, &vmpb.GetOperationRequest{OperationId: grpcx.ID(req.OperationID), Wait: durationpb.New(req.Wait)})
	if err != nil {
		return vm.GetOperationResponse{}, err
	}
	var d decoder
	out := vm.GetOperationResponse{Operation: d.operation(resp.GetOperation())}
	return out, d.Err
}
