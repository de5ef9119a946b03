-- Events for clients: a stream that can be taken up again anywhere, and webhooks.

-- +goose Up
CREATE INDEX outbox_vm_events_tenant ON outbox ((payload ->> 'tenant_id'), seq) WHERE subject = 'vm.events';

CREATE TABLE webhooks (
    id                   uuid PRIMARY KEY,
    tenant_id            uuid NOT NULL,
    owner_id             uuid NOT NULL,
    name                 text NOT NULL,
    url                  text NOT NULL,
    events               text[] NOT NULL, -- types; '*' is all
    secret               bytea NOT NULL,  -- sealed
    old_secret           bytea,           -- sealed; signs too until old_secret_until
    old_secret_until     timestamptz,
    internal             boolean NOT NULL DEFAULT false, -- may reach addresses of the installation's own networks
    enabled              boolean NOT NULL DEFAULT true,
    disabled_reason      text NOT NULL DEFAULT '',
    failing_since        timestamptz,
    version              bigint NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT webhooks_name_key UNIQUE (tenant_id, name)
);
CREATE INDEX webhooks_tenant_page ON webhooks (tenant_id, created_at DESC, id DESC);

-- How far events have been given out to webhooks: one row.
CREATE TABLE webhook_progress (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL
);

-- One event for one webhook. It is claimed for as long as an attempt may take; whoever dies meanwhile is replaced.
CREATE TABLE webhook_deliveries (
    id              uuid PRIMARY KEY,
    webhook_id      uuid NOT NULL CONSTRAINT webhook_deliveries_webhook_fkey REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id        uuid NOT NULL,
    event_type      text NOT NULL,
    payload         json NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until   timestamptz,
    response_status integer,
    response_text   text NOT NULL DEFAULT '',
    error           text NOT NULL DEFAULT '',
    duration_ms     bigint,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT webhook_deliveries_event_key UNIQUE (webhook_id, event_id)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_page ON webhook_deliveries (webhook_id, created_at DESC, id DESC);
CREATE INDEX webhook_deliveries_updated ON webhook_deliveries (updated_at) WHERE status <> 'pending';

-- +goose Down
DROP TABLE webhook_deliveries, webhook_progress, webhooks;
DROP INDEX outbox_vm_events_tenant;
