-- name: ImageInsert :one
INSERT INTO images (id, tenant_id, owner_id, name, status, format, upload_sha256, virtual_size_bytes, operation_id)
VALUES (@id, @tenant_id, @owner_id, @name, 'importing', @format, @upload_sha256, @virtual_size_bytes, @operation_id)
RETURNING *;

-- name: ImageGet :one
SELECT * FROM images WHERE id = @id;

-- name: ImageList :many
SELECT * FROM images
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name) AND (sqlc.narg(owner)::uuid IS NULL OR owner_id = sqlc.narg(owner))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: ImageReady :execrows
UPDATE images SET status = 'ready', sha256 = @sha256, size_bytes = @size_bytes, operation_id = NULL, error = NULL, updated_at = now()
WHERE id = @id AND status <> 'ready';

-- name: ImageFailed :exec
UPDATE images SET status = 'failed', operation_id = NULL, error = @error, updated_at = now() WHERE id = @id AND status = 'importing';

-- name: ImageDelete :execrows
DELETE FROM images WHERE id = @id;

-- name: ImageIDs :many
SELECT id FROM images;
