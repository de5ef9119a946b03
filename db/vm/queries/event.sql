-- name: EventBounds :one
WITH numbers AS (SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')), 0) + 1 AS next)
SELECT coalesce((SELECT min(seq) FROM outbox), numbers.next)::bigint AS first, coalesce((SELECT max(seq) FROM outbox), 0)::bigint AS last, numbers.next::bigint AS next
FROM numbers;

-- name: EventsOfTenant :many
SELECT seq, payload FROM outbox
WHERE subject IN ('vm.events', 'vm.objects') AND payload ->> 'tenant_id' = @tenant_id::text AND seq > @after
    AND (cardinality(@types::text[]) = 0 OR payload ->> 'type' = ANY (@types::text[]))
    AND (cardinality(@kinds::text[]) = 0 OR coalesce(payload -> 'object' ->> 'kind', 'vm') = ANY (@kinds::text[]))
    AND (sqlc.narg(object_id)::text IS NULL OR coalesce(payload -> 'object' ->> 'id', payload ->> 'vm_id') = sqlc.narg(object_id)::text)
    AND (sqlc.narg(vm_id)::text IS NULL OR payload ->> 'vm_id' = sqlc.narg(vm_id)::text)
ORDER BY seq LIMIT @max_rows;

-- name: EventsOfAll :many
SELECT seq, payload FROM outbox
WHERE subject IN ('vm.events', 'vm.objects') AND seq > @after
    AND (cardinality(@types::text[]) = 0 OR payload ->> 'type' = ANY (@types::text[]))
    AND (cardinality(@kinds::text[]) = 0 OR coalesce(payload -> 'object' ->> 'kind', 'vm') = ANY (@kinds::text[]))
    AND (sqlc.narg(object_id)::text IS NULL OR coalesce(payload -> 'object' ->> 'id', payload ->> 'vm_id') = sqlc.narg(object_id)::text)
    AND (sqlc.narg(vm_id)::text IS NULL OR payload ->> 'vm_id' = sqlc.narg(vm_id)::text)
ORDER BY seq LIMIT @max_rows;
