-- +goose Up

-- A tenant owns users and everything that they make. A parent makes it a project of an organisation.
CREATE TABLE tenants (
    id          uuid PRIMARY KEY,
    name        varchar(255) NOT NULL,
    parent_id   uuid REFERENCES tenants (id),
    disabled_at timestamptz,
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX tenants_name_key ON tenants (lower(name));
CREATE INDEX tenants_page ON tenants (created_at DESC, id DESC);

-- A role without a tenant is built in. Scope 'platform' reaches every tenant.
CREATE TABLE roles (
    id          uuid PRIMARY KEY,
    tenant_id   uuid REFERENCES tenants (id) ON DELETE CASCADE,
    name        varchar(50) NOT NULL,
    description text NOT NULL DEFAULT '',
    scope       text NOT NULL CHECK (scope IN ('tenant', 'platform')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_platform_is_built_in CHECK (scope = 'tenant' OR tenant_id IS NULL)
);
CREATE UNIQUE INDEX roles_name_key ON roles (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), name);

-- What a role allows: "<resource>:<verb>", either part may be "*"; "*" alone is everything.
CREATE TABLE permissions (
    role_id    uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission varchar(100) NOT NULL,
    PRIMARY KEY (role_id, permission)
);

-- users.role names a built-in role or one of the user's own tenant.
CREATE TABLE users (
    id                  uuid PRIMARY KEY,
    username            varchar(255) NOT NULL,
    email               varchar(255),
    password_hash       varchar(255) NOT NULL,
    role                varchar(50) NOT NULL DEFAULT 'user',
    tenant_id           uuid NOT NULL REFERENCES tenants (id),
    mfa_enabled         boolean NOT NULL DEFAULT false,
    disabled_at         timestamptz,
    password_changed_at timestamptz NOT NULL,
    last_login_at       timestamptz,
    version             bigint NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
CREATE INDEX users_page ON users (created_at DESC, id DESC);
CREATE INDEX users_tenant_page ON users (tenant_id, created_at DESC, id DESC);

-- A session is one login: the family of all refresh tokens that descend from it.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ip           text NOT NULL DEFAULT '',
    user_agent   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_user_page ON sessions (user_id, created_at DESC, id DESC);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Refresh tokens are known by their SHA-256 only. A used one stays until it would have expired, so that its reuse is noticed.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

INSERT INTO roles (id, name, description, scope) VALUES
    ('01930000-0000-7000-8000-000000000001', 'admin', 'Everything, in every tenant.', 'platform'),
    ('01930000-0000-7000-8000-000000000002', 'operator', 'Runs the workloads of its tenant and sees its users.', 'tenant'),
    ('01930000-0000-7000-8000-000000000003', 'user', 'Creates and uses machines, disks, images and networks.', 'tenant'),
    ('01930000-0000-7000-8000-000000000004', 'viewer', 'Sees the workloads of its tenant and changes nothing.', 'tenant'),
    ('01930000-0000-7000-8000-000000000005', 'auditor', 'Sees workloads, users, roles and the audit trail of its tenant and changes nothing.', 'tenant');

INSERT INTO permissions (role_id, permission)
SELECT r.id, p.permission
FROM roles r
JOIN (VALUES
    ('admin', '*'),
    ('operator', 'vm:*'), ('operator', 'image:*'), ('operator', 'network:*'), ('operator', 'volume:*'), ('operator', 'snapshot:*'),
    ('operator', 'backup:*'), ('operator', 'template:*'), ('operator', 'security-group:*'), ('operator', 'ssh-key:*'),
    ('operator', 'flavor:read'), ('operator', 'operation:*'), ('operator', 'event:read'), ('operator', 'webhook:*'),
    ('operator', 'affinity-group:*'), ('operator', 'quota:read'), ('operator', 'monitoring:*'), ('operator', 'alert:*'),
    ('operator', 'multicloud:read'), ('operator', 'user:read'), ('operator', 'tenant:read'), ('operator', 'role:read'),
    ('user', 'vm:*'), ('user', 'image:*'), ('user', 'network:*'), ('user', 'volume:*'), ('user', 'snapshot:*'), ('user', 'backup:*'),
    ('user', 'template:read'), ('user', 'security-group:*'), ('user', 'ssh-key:*'), ('user', 'flavor:read'), ('user', 'operation:*'),
    ('user', 'event:read'), ('user', 'affinity-group:*'), ('user', 'quota:read'), ('user', 'monitoring:read'), ('user', 'alert:read'),
    ('user', 'tenant:read'),
    ('viewer', 'vm:read'), ('viewer', 'image:read'), ('viewer', 'network:read'), ('viewer', 'volume:read'), ('viewer', 'snapshot:read'),
    ('viewer', 'backup:read'), ('viewer', 'template:read'), ('viewer', 'security-group:read'), ('viewer', 'ssh-key:read'),
    ('viewer', 'flavor:read'), ('viewer', 'operation:read'), ('viewer', 'event:read'), ('viewer', 'affinity-group:read'),
    ('viewer', 'quota:read'), ('viewer', 'monitoring:read'), ('viewer', 'alert:read'), ('viewer', 'tenant:read'),
    ('auditor', 'vm:read'), ('auditor', 'image:read'), ('auditor', 'network:read'), ('auditor', 'volume:read'), ('auditor', 'snapshot:read'),
    ('auditor', 'backup:read'), ('auditor', 'template:read'), ('auditor', 'security-group:read'), ('auditor', 'ssh-key:read'),
    ('auditor', 'flavor:read'), ('auditor', 'operation:read'), ('auditor', 'event:read'), ('auditor', 'affinity-group:read'),
    ('auditor', 'quota:read'), ('auditor', 'monitoring:read'), ('auditor', 'alert:read'), ('auditor', 'tenant:read'),
    ('auditor', 'user:read'), ('auditor', 'role:read'), ('auditor', 'session:read'), ('auditor', 'audit:read')
) AS p (role, permission) ON p.role = r.name;

-- +goose Down
DROP TABLE refresh_tokens, sessions, users, permissions, roles, tenants;
