-- name: SnapshotInsert :one
INSERT INTO vm_snapshots (id, vm_id, tenant_id, owner_id, name, description, parent_id, status, memory, vm_state, config, size_bytes,
    expected_pause_ms, operation_id)
VALUES (@id, @vm_id, @tenant_id, @owner_id, @name, @description, @parent_id, 'creating', @memory, @vm_state, @config, @size_bytes,
    @expected_pause_ms, @operation_id)
RETURNING *;

-- name: SnapshotGet :one
SELECT * FROM vm_snapshots WHERE id = @id;

-- name: SnapshotList :many
SELECT * FROM vm_snapshots
WHERE vm_id = @vm_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: SnapshotListAll :many
SELECT * FROM vm_snapshots WHERE vm_id = @vm_id ORDER BY created_at, id;

-- name: SnapshotTaken :exec
UPDATE vm_snapshots SET frozen = @frozen, vm_state = @vm_state, memory_bytes = @memory_bytes, pause_ms = coalesce(sqlc.narg(pause_ms), pause_ms),
    updated_at = now() WHERE id = @id;

-- name: SnapshotSetStatus :execrows
UPDATE vm_snapshots SET status = @status, operation_id = @operation_id, error = @error, updated_at = now() WHERE id = @id;

-- name: SnapshotReparent :exec
UPDATE vm_snapshots SET parent_id = @parent_id WHERE vm_id = @vm_id AND parent_id = @id::uuid;

-- name: SnapshotDelete :exec
DELETE FROM vm_snapshots WHERE id = @id;

-- name: SnapshotUnfinished :many
SELECT s.* FROM vm_snapshots s
WHERE s.status <> 'ready' AND s.updated_at < now() - make_interval(secs => @older_seconds::float8) ORDER BY s.updated_at LIMIT @max_rows;

-- name: SnapshotTotals :one
SELECT count(*) AS snapshots, coalesce(sum(size_bytes), 0)::bigint AS size_bytes FROM vm_snapshots;

-- name: VMSetCurrentSnapshot :exec
UPDATE vms SET current_snapshot_id = @current_snapshot_id WHERE id = @id;

-- name: VMSetDisk :exec
UPDATE vms SET resource_config = @resource_config, storage_config = @storage_config, updated_at = now() WHERE id = @id;
