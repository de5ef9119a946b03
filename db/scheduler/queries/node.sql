-- name: NodeHeartbeat :execrows
INSERT INTO nodes (id, name, epoch, reported_at, last_heartbeat, cpu_capacity, memory_capacity, storage_capacity, storage_free,
    cpu_model, accelerator, architecture, version, hypervisor_version, hypervisors, health, reason)
VALUES (@id, @name, @epoch, @reported_at, now(), @cpu_capacity, @memory_capacity, @storage_capacity, @storage_free,
    @cpu_model, @accelerator, @architecture, @version, @hypervisor_version, @hypervisors, @health, @reason)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = excluded.epoch, reported_at = excluded.reported_at,
    last_heartbeat = excluded.last_heartbeat, cpu_capacity = excluded.cpu_capacity, memory_capacity = excluded.memory_capacity,
    storage_capacity = excluded.storage_capacity, storage_free = excluded.storage_free, cpu_model = excluded.cpu_model,
    accelerator = excluded.accelerator, architecture = excluded.architecture, version = excluded.version,
    hypervisor_version = excluded.hypervisor_version, hypervisors = excluded.hypervisors, health = excluded.health,
    reason = excluded.reason
WHERE (nodes.epoch, nodes.reported_at) < (excluded.epoch, excluded.reported_at)
    OR (nodes.epoch = excluded.epoch AND nodes.last_heartbeat < now() - make_interval(secs => @patience_seconds::float8));

-- name: NodeGet :one
SELECT sqlc.embed(nodes), now()::timestamptz AS read_at FROM nodes WHERE id = @id;

-- name: NodeGetForUpdate :one
SELECT sqlc.embed(nodes), now()::timestamptz AS read_at FROM nodes WHERE id = @id FOR UPDATE;

-- name: NodeList :many
SELECT sqlc.embed(nodes), now()::timestamptz AS read_at FROM nodes
WHERE (registered_at, id) < (@after_time::timestamptz, @after_id::uuid)
ORDER BY registered_at DESC, id DESC LIMIT @max_rows;

-- name: NodeListAll :many
SELECT sqlc.embed(nodes), now()::timestamptz AS read_at FROM nodes;

-- name: NodeSetLabels :exec
UPDATE nodes SET labels = @labels, revision = revision + 1 WHERE id = @id;

-- name: NodeSetCordoned :exec
UPDATE nodes SET cordoned = @cordoned, revision = revision + 1 WHERE id = @id;

-- name: NodeAdd :exec
UPDATE nodes SET cpu_allocated = cpu_allocated + @vcpus::bigint, memory_allocated = memory_allocated + @memory_bytes::bigint,
    storage_allocated = storage_allocated + @storage_bytes::bigint, vms = vms + @vms::integer
WHERE id = @id;
