-- name: ImageInsert :one
INSERT INTO images (id, tenant_id, owner_id, name, status, kind, format, upload_sha256, virtual_size_bytes, operation_id, visibility, shared_with,
    source_url, declared_size, said_format)
VALUES (@id, @tenant_id, @owner_id, @name, @status, @kind, @format, @upload_sha256, @virtual_size_bytes, @operation_id, @visibility, @shared_with,
    @source_url, @declared_size, @said_format)
RETURNING *;

-- name: ImageGet :one
SELECT * FROM images WHERE id = @id;

-- name: ImageGetForUpdate :one
SELECT * FROM images WHERE id = @id FOR UPDATE;

-- name: ImageList :many
SELECT * FROM images
WHERE (tenant_id = @tenant_id AND (sqlc.narg(owner)::uuid IS NULL OR owner_id = sqlc.narg(owner))
        OR @foreign_too::boolean AND tenant_id <> @tenant_id AND status = 'ready'
            AND (visibility = 'public' OR visibility = 'shared' AND shared_with @> ARRAY[@tenant_id]::uuid[]))
    AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name) AND (@kind::text = '' OR kind = @kind) AND (@visibility::text = '' OR visibility = @visibility)
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: ImageUpdate :one
UPDATE images SET name = @name, visibility = @visibility, shared_with = @shared_with, version = version + 1, updated_at = now()
WHERE id = @id
RETURNING *;

-- name: ImageTouch :exec
UPDATE images SET updated_at = now() WHERE id = @id AND status = 'uploading';

-- name: ImageImporting :one
UPDATE images SET status = 'importing', kind = @kind, format = @format, upload_sha256 = @upload_sha256, virtual_size_bytes = @virtual_size_bytes,
    operation_id = @operation_id, updated_at = now()
WHERE id = @id AND status = 'uploading'
RETURNING *;

-- name: ImageScreened :exec
UPDATE images SET kind = @kind, format = @format, upload_sha256 = @upload_sha256, virtual_size_bytes = @virtual_size_bytes, updated_at = now()
WHERE id = @id AND status = 'importing';

-- name: ImageReady :exec
UPDATE images SET status = 'ready', sha256 = @sha256, size_bytes = @size_bytes, virtual_size_bytes = @virtual_size_bytes, operation_id = NULL,
    error = NULL, updated_at = now()
WHERE id = @id AND status <> 'ready';

-- name: ImageFailed :one
UPDATE images SET status = 'failed', operation_id = NULL, error = @error, updated_at = now() WHERE id = @id
RETURNING *;

-- name: ImageDelete :one
DELETE FROM images WHERE id = @id AND version = coalesce(sqlc.narg(seen), version) RETURNING *;

-- name: ImageUploadDelete :one
DELETE FROM images WHERE id = @id AND status = 'uploading' RETURNING *;

-- name: ImagesStale :many
SELECT id FROM images WHERE status = 'uploading' AND updated_at < now() - make_interval(secs => @seconds::float8);

-- name: ImageIDs :many
SELECT id FROM images;
