-- name: AllocationInsert :one
INSERT INTO resource_allocations (id, kind, node_id, vm_id, tenant_id, hypervisor_type, cpu_allocated, memory_allocated,
    storage_allocated, status, expires_at)
VALUES (@id, @kind, @node_id, @vm_id, @tenant_id, @hypervisor_type, @cpu_allocated, @memory_allocated, @storage_allocated,
    'reserved', clock_timestamp() + make_interval(secs => @ttl_seconds::float8))
RETURNING *;

-- name: AllocationGet :one
SELECT * FROM resource_allocations WHERE vm_id = @vm_id;

-- name: AllocationSetSize :one
UPDATE resource_allocations SET cpu_allocated = @cpu_allocated, memory_allocated = @memory_allocated, storage_allocated = @storage_allocated
WHERE vm_id = @vm_id RETURNING *;

-- name: AllocationConfirm :one
UPDATE resource_allocations SET status = 'confirmed', expires_at = NULL
WHERE vm_id = @vm_id AND (status = 'confirmed' OR expires_at > clock_timestamp())
RETURNING *;

-- name: AllocationRenew :one
UPDATE resource_allocations SET expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => @ttl_seconds::float8))
WHERE vm_id = @vm_id AND status = 'reserved' AND expires_at > clock_timestamp()
RETURNING *;

-- name: AllocationDelete :one
DELETE FROM resource_allocations WHERE vm_id = @vm_id RETURNING *;

-- name: AllocationDeleteExpired :one
DELETE FROM resource_allocations WHERE vm_id = @vm_id AND status = 'reserved' AND expires_at <= clock_timestamp() RETURNING *;

-- name: AllocationListExpired :many
SELECT vm_id, tenant_id FROM resource_allocations
WHERE status = 'reserved' AND expires_at <= now() ORDER BY expires_at LIMIT @max_rows;

-- name: AllocationList :many
SELECT * FROM resource_allocations
WHERE (allocated_at, vm_id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY allocated_at DESC, vm_id DESC LIMIT @max_rows;

-- name: AllocationListByNode :many
SELECT * FROM resource_allocations
WHERE node_id = @node_id AND (allocated_at, vm_id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY allocated_at DESC, vm_id DESC LIMIT @max_rows;

-- name: AllocationListByTenant :many
SELECT * FROM resource_allocations
WHERE tenant_id = @tenant_id AND (allocated_at, vm_id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY allocated_at DESC, vm_id DESC LIMIT @max_rows;

-- name: AllocationListByTenantAndNode :many
SELECT * FROM resource_allocations
WHERE tenant_id = @tenant_id AND node_id = @node_id AND (allocated_at, vm_id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY allocated_at DESC, vm_id DESC LIMIT @max_rows;
