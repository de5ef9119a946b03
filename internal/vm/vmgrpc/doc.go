// Package vmgrpc carries the contract of the vm module between processes: Client is a vm.Service that calls one in another process, Register
// serves any vm.Service. Both only convert; api/proto/novacron/vm/v1/vm.proto is what travels. Package grpcx carries the principal.
package vmgrpc
