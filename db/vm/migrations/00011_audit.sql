-- +goose Up
-- Calls that are being carried out. What stays here when its process has gone becomes an audit record with the result "unknown".
CREATE TABLE audit_intents (
    id          uuid        PRIMARY KEY,
    record      json        NOT NULL,
    alive_until timestamptz NOT NULL
);
CREATE INDEX audit_intents_alive_until ON audit_intents (alive_until);

-- +goose Down
DROP TABLE audit_intents;
