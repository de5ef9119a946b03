-- The place in the trace of the request that asked for an operation (W3C traceparent), so that the trace goes on after a restart.
ALTER TABLE operations ADD COLUMN trace_parent text NOT NULL DEFAULT '' CHECK (length(trace_parent) <= 64);
