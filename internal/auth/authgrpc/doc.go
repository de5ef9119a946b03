// Package authgrpc carries the contract of the auth module between processes: Client is an auth.Service that calls one in another process,
// Register serves any auth.Service. Both only convert; api/proto/novacron/auth/v1/auth.proto is what travels.
package authgrpc
