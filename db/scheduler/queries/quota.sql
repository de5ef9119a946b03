-- name: QuotaGet :one
SELECT * FROM quotas WHERE tenant_id = @tenant_id;

-- name: QuotaPut :exec
INSERT INTO quotas (tenant_id, vcpus, memory_bytes, storage_bytes, vms)
VALUES (@tenant_id, @vcpus, @memory_bytes, @storage_bytes, @vms)
ON CONFLICT (tenant_id) DO UPDATE SET vcpus = excluded.vcpus, memory_bytes = excluded.memory_bytes,
    storage_bytes = excluded.storage_bytes, vms = excluded.vms, revision = quotas.revision + 1, updated_at = now();

-- name: UsageEnsure :exec
INSERT INTO quota_usage (tenant_id) VALUES (@tenant_id) ON CONFLICT DO NOTHING;

-- name: UsageGet :one
SELECT * FROM quota_usage WHERE tenant_id = @tenant_id;

-- name: UsageLock :one
SELECT * FROM quota_usage WHERE tenant_id = @tenant_id FOR UPDATE;

-- name: UsageAdd :exec
UPDATE quota_usage SET vcpus = vcpus + @vcpus::bigint, memory_bytes = memory_bytes + @memory_bytes::bigint,
    storage_bytes = storage_bytes + @storage_bytes::bigint, vms = vms + @vms::bigint
WHERE tenant_id = @tenant_id;

-- UsageForget drops counters that count nothing.
-- name: UsageForget :exec
DELETE FROM quota_usage WHERE tenant_id = @tenant_id AND vms = 0;

-- name: QuotaForget :exec
DELETE FROM quotas WHERE tenant_id = @tenant_id;
