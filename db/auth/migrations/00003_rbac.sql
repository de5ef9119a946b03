-- Custom roles, role bindings, projects, and one-time passwords.

-- +goose Up
ALTER TABLE roles ADD COLUMN version bigint NOT NULL DEFAULT 1, ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

-- A one-time password opens a session that can do nothing but replace it, and ends by itself.
ALTER TABLE users ADD COLUMN password_change_required boolean NOT NULL DEFAULT false, ADD COLUMN password_expires_at timestamptz;

CREATE INDEX users_tenant_role ON users (tenant_id, role);
CREATE INDEX tenants_parent ON tenants (parent_id) WHERE parent_id IS NOT NULL;

-- A binding gives a role to a principal: everywhere, or in one tenant and perhaps in that tenant's projects. principal_id refers to users or to
-- what another kind of principal is kept in, so there is no foreign key: who removes a principal removes their bindings.
CREATE TABLE role_bindings (
    id               uuid PRIMARY KEY,
    principal_kind   text NOT NULL CHECK (principal_kind IN ('user', 'api_key')),
    principal_id     uuid NOT NULL,
    role_id          uuid NOT NULL CONSTRAINT role_bindings_role_id_fkey REFERENCES roles (id),
    scope            text NOT NULL CHECK (scope IN ('tenant', 'platform')),
    tenant_id        uuid CONSTRAINT role_bindings_tenant_id_fkey REFERENCES tenants (id) ON DELETE CASCADE,
    include_projects boolean NOT NULL DEFAULT false,
    created_by       uuid NOT NULL,
    created_at       timestamptz NOT NULL,
    CONSTRAINT role_bindings_reach CHECK ((scope = 'platform') = (tenant_id IS NULL) AND (scope = 'tenant' OR NOT include_projects))
);
CREATE UNIQUE INDEX role_bindings_key
    ON role_bindings (principal_kind, principal_id, role_id, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'));
CREATE INDEX role_bindings_page ON role_bindings (created_at DESC, id DESC);
CREATE INDEX role_bindings_tenant_page ON role_bindings (tenant_id, created_at DESC, id DESC);
CREATE INDEX role_bindings_role ON role_bindings (role_id);

-- Requests with an Idempotency-Key, and their answers.
CREATE TABLE idempotency_keys (
    principal_id uuid        NOT NULL,
    route        text        NOT NULL,
    key          text        NOT NULL,
    body_sha256  bytea       NOT NULL,
    lock         uuid        NOT NULL, -- of whoever carries the request out, or did
    locked_until timestamptz NOT NULL,
    status       integer,              -- null: the request is being carried out
    header       jsonb,
    body         bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal_id, route, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys, role_bindings;
DROP INDEX tenants_parent;
DROP INDEX users_tenant_role;
ALTER TABLE users DROP COLUMN password_change_required, DROP COLUMN password_expires_at;
ALTER TABLE roles DROP COLUMN version, DROP COLUMN updated_at;
