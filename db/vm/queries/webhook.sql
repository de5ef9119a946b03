-- name: WebhookInsert :one
INSERT INTO webhooks (id, tenant_id, owner_id, name, url, events, secret, internal, enabled)
VALUES (@id, @tenant_id, @owner_id, @name, @url, @events, @secret, @internal, @enabled) RETURNING *;

-- name: WebhookGet :one
SELECT * FROM webhooks WHERE id = @id;

-- name: WebhookList :many
SELECT * FROM webhooks
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name)
    AND (sqlc.narg(owner_id)::uuid IS NULL OR owner_id = sqlc.narg(owner_id))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: WebhookUpdate :one
UPDATE webhooks SET name = coalesce(sqlc.narg(name), name), url = coalesce(sqlc.narg(url), url), internal = coalesce(sqlc.narg(internal), internal),
    events = coalesce(sqlc.narg(events)::text[], events), enabled = coalesce(sqlc.narg(enabled), enabled),
    disabled_reason = CASE WHEN sqlc.narg(enabled)::boolean IS NULL THEN disabled_reason ELSE '' END,
    failing_since = CASE WHEN sqlc.narg(enabled)::boolean THEN NULL ELSE failing_since END,
    version = version + 1, updated_at = clock_timestamp()
WHERE id = @id AND version = coalesce(sqlc.narg(seen), version) RETURNING *;

-- name: WebhookRotate :one
UPDATE webhooks SET secret = @secret, old_secret = CASE WHEN @overlap::interval > interval '0' THEN secret END,
    old_secret_until = clock_timestamp() + @overlap::interval, version = version + 1, updated_at = clock_timestamp()
WHERE id = @id RETURNING *;

-- name: WebhookDelete :execrows
DELETE FROM webhooks WHERE id = @id AND version = coalesce(sqlc.narg(seen), version);

-- name: WebhookFailing :exec
UPDATE webhooks SET failing_since = coalesce(failing_since, clock_timestamp()),
    enabled = enabled AND NOT (@now_off::boolean OR coalesce(failing_since < clock_timestamp() - @patience::interval, false)),
    disabled_reason = CASE WHEN enabled AND (@now_off::boolean OR coalesce(failing_since < clock_timestamp() - @patience::interval, false)) THEN @reason ELSE disabled_reason END,
    updated_at = CASE WHEN enabled AND (@now_off::boolean OR coalesce(failing_since < clock_timestamp() - @patience::interval, false)) THEN clock_timestamp() ELSE updated_at END
WHERE id = @id;

-- name: WebhookWorks :exec
UPDATE webhooks SET failing_since = NULL WHERE id = @id AND failing_since IS NOT NULL;

-- name: WebhookProgressLock :one
INSERT INTO webhook_progress (seq) SELECT coalesce(max(o.seq), 0) FROM outbox o
ON CONFLICT (one) DO UPDATE SET seq = webhook_progress.seq RETURNING seq;

-- name: WebhookProgressSet :exec
UPDATE webhook_progress SET seq = @seq;

-- name: WebhookGiveOut :execrows
INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, payload)
SELECT gen_random_uuid(), w.id, o.id, o.payload ->> 'type', o.payload
FROM outbox o JOIN webhooks w ON w.tenant_id = (o.payload ->> 'tenant_id')::uuid
    AND w.enabled AND w.created_at <= o.created_at
    AND (w.events && ARRAY['*', o.payload ->> 'type', coalesce(o.payload -> 'object' ->> 'kind', 'vm') || '.*'])
WHERE o.subject IN ('vm.events', 'vm.objects') AND o.seq > @after AND o.seq <= @upto
ORDER BY o.seq
ON CONFLICT (webhook_id, event_id) DO NOTHING;

-- name: WebhookUpTo :one
SELECT coalesce(max(seq), @after::bigint)::bigint FROM (SELECT seq FROM outbox WHERE seq > @after ORDER BY seq LIMIT @most) o;

-- name: DeliveryClaim :many
WITH due AS (
    SELECT d.id FROM webhooks w, LATERAL (
        SELECT id, next_attempt_at FROM webhook_deliveries
        WHERE webhook_id = w.id AND status = 'pending' AND next_attempt_at <= clock_timestamp() AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
        ORDER BY next_attempt_at LIMIT greatest(sqlc.arg(each)::bigint - (
            SELECT count(*) FROM webhook_deliveries b WHERE b.webhook_id = w.id AND b.status = 'pending' AND b.claimed_until > clock_timestamp()), 0)
    ) d
    WHERE w.enabled
    ORDER BY d.next_attempt_at LIMIT @most
), locked AS (
    SELECT id FROM webhook_deliveries WHERE id IN (SELECT id FROM due)
        AND status = 'pending' AND (claimed_until IS NULL OR claimed_until <= clock_timestamp()) FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET claimed_until = clock_timestamp() + @claim::interval, attempts = attempts + 1, updated_at = clock_timestamp()
FROM webhooks w WHERE d.id IN (SELECT id FROM locked) AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.event_id, d.event_type, d.payload, d.attempts, w.url, w.secret, w.old_secret, w.old_secret_until, w.internal;

-- name: DeliveryDone :execrows
UPDATE webhook_deliveries SET status = @status, next_attempt_at = clock_timestamp() + @wait::interval, claimed_until = NULL, response_status = sqlc.narg(response_status),
    response_text = @response_text, error = @error, duration_ms = @duration_ms, updated_at = clock_timestamp()
WHERE id = @id AND attempts = @attempts AND claimed_until IS NOT NULL;

-- name: DeliveryGet :one
SELECT * FROM webhook_deliveries WHERE id = @id AND webhook_id = @webhook_id;

-- name: DeliveryList :many
SELECT * FROM webhook_deliveries
WHERE webhook_id = @webhook_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@status::text = '' OR status = @status)
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: DeliveryAgain :one
UPDATE webhook_deliveries SET status = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = @id AND webhook_id = @webhook_id AND (claimed_until IS NULL OR claimed_until <= clock_timestamp()) RETURNING *;

-- name: DeliveryInsert :one
INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, payload) VALUES (@id, @webhook_id, @event_id, @event_type, @payload) RETURNING *;

-- name: DeliverySweep :execrows
DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries WHERE status <> 'pending' AND updated_at < clock_timestamp() - @retention::interval LIMIT @most);

-- name: DeliveryBacklog :one
SELECT count(*) AS waiting, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_seconds
FROM webhook_deliveries d WHERE status = 'pending' AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook_id AND w.enabled);
