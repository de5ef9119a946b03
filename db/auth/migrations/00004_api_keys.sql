-- +goose Up

-- A service account is a user without a password: it cannot log in and uses API keys.
ALTER TABLE users
    ADD COLUMN kind        text NOT NULL DEFAULT 'human' CONSTRAINT users_kind CHECK (kind IN ('human', 'service')),
    ADD COLUMN description varchar(1000) NOT NULL DEFAULT '',
    ADD CONSTRAINT users_service_has_no_password CHECK (kind = 'human' OR password_hash = '');

-- API keys are known by the SHA-256 of their whole text, in hexadecimal. A revoked one stays for a while, so that its holder is told why.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    name         varchar(255) NOT NULL,
    key_hash     varchar(255) NOT NULL CONSTRAINT api_keys_key_hash_key UNIQUE,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permissions  jsonb,
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL,
    prefix       varchar(32) NOT NULL CONSTRAINT api_keys_prefix_key UNIQUE,
    scope        text NOT NULL CHECK (scope IN ('tenant', 'platform')),
    created_by   uuid,
    last_used_at timestamptz,
    last_used_ip text NOT NULL DEFAULT '',
    rotated_at   timestamptz,
    old_until    timestamptz,
    revoked_at   timestamptz,
    version      bigint NOT NULL DEFAULT 1,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX api_keys_page ON api_keys (created_at DESC, id DESC);
CREATE INDEX api_keys_user_page ON api_keys (user_id, created_at DESC, id DESC);
CREATE INDEX api_keys_ended ON api_keys (least(expires_at, revoked_at)) WHERE expires_at IS NOT NULL OR revoked_at IS NOT NULL;

-- What a rotation replaced goes on until expires_at.
CREATE TABLE api_key_old_secrets (
    key_hash   varchar(255) PRIMARY KEY,
    key_id     uuid NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX api_key_old_secrets_key ON api_key_old_secrets (key_id);

-- Everyone may have keys of their own: a key gives nobody anything that its owner lacks.
INSERT INTO permissions (role_id, permission)
SELECT r.id, 'api-key:*'
FROM roles r
WHERE r.tenant_id IS NULL AND r.name IN ('operator', 'user', 'viewer', 'auditor')
ON CONFLICT DO NOTHING;

-- +goose Down
DELETE FROM permissions WHERE permission = 'api-key:*';
DROP TABLE api_key_old_secrets, api_keys;
DELETE FROM role_bindings WHERE principal_kind = 'api_key' OR principal_id IN (SELECT id FROM users WHERE kind = 'service');
DELETE FROM users WHERE kind = 'service';
ALTER TABLE users DROP CONSTRAINT users_service_has_no_password, DROP COLUMN description, DROP COLUMN kind;
