-- The tables of the operation engine, the outbox and the idempotency keys, as their packages describe them.

-- +goose Up
-- The operations of a module. One row each; steps and state change as the saga goes on.
CREATE TABLE operations (
    id               uuid PRIMARY KEY,
    kind             text NOT NULL,
    target_id        uuid NOT NULL,
    tenant_id        uuid NOT NULL,
    requested_by     uuid NOT NULL,
    idempotency_key  text NOT NULL DEFAULT '',
    generation       bigint NOT NULL,
    status           text NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'canceled')),
    undoing          boolean NOT NULL DEFAULT false,
    cancel_requested boolean NOT NULL DEFAULT false,
    steps            jsonb NOT NULL,
    progress         integer NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    input            jsonb NOT NULL,
    state            jsonb NOT NULL DEFAULT 'null',
    error            jsonb,
    lease_owner      text NOT NULL DEFAULT '',
    lease_epoch      bigint NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    delivered_at     timestamptz NOT NULL DEFAULT now(),
    deadline         timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    ended_at         timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operations_page ON operations (created_at DESC, id DESC);
CREATE INDEX operations_tenant_page ON operations (tenant_id, created_at DESC, id DESC);
CREATE INDEX operations_target_page ON operations (target_id, created_at DESC, id DESC);
CREATE INDEX operations_live ON operations (next_attempt_at) WHERE ended_at IS NULL;
CREATE INDEX operations_ended ON operations (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX operations_idempotency ON operations (requested_by, kind, idempotency_key) WHERE idempotency_key <> '';

-- The transactional outbox: events of this module, told after commit and kept for replay.
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid        NOT NULL UNIQUE,
    subject      text        NOT NULL,
    payload      json        NOT NULL, -- json, not jsonb: a replay gives the same bytes as the first telling
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_subject ON outbox (subject, seq);
CREATE INDEX outbox_created_at ON outbox (created_at);

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
DROP TABLE operations, outbox, idempotency_keys;
