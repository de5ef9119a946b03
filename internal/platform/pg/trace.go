package pg

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/novacron/novacron/internal/platform/tracing"
)

// tracer makes a span of each query that belongs to a recorded trace. It tells the text of the query and nothing that was given to it; of an
// error it tells the SQLSTATE, because messages quote values.
type tracer struct{}

type querySpan struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	return begin(ctx, conn, q.SQL)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	finish(ctx, q.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return begin(ctx, conn, "BATCH")
}

// TraceBatchQuery implements pgx.BatchTracer.
func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchEndData) {
	finish(ctx, b.Err)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (tracer) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, c pgx.TraceCopyFromStartData) context.Context {
	return begin(ctx, conn, "COPY "+c.TableName.Sanitize())
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (tracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, c pgx.TraceCopyFromEndData) {
	finish(ctx, c.Err)
}

func begin(ctx context.Context, conn *pgx.Conn, sql string) context.Context {
	if !tracing.Recorded(ctx) {
		return ctx
	}
	name, text := queryName(sql)
	ctx, span := tracing.Start(ctx, tracing.Client, "sql "+name, tracing.String("db.system.name", "postgresql"),
		tracing.String("db.query.text", text), tracing.String("db.namespace", conn.Config().RuntimeParams["search_path"]))
	return context.WithValue(ctx, querySpan{}, span)
}

func finish(ctx context.Context, err error) {
	span, ok := ctx.Value(querySpan{}).(tracing.Span)
	if !ok {
		return
	}
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		span.Fail(refused.Code)
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		span.Fail("connection")
	}
	span.End(nil)
}

// queryName gives the name of a query, which sqlc writes above it, or else its first word, and its text.
func queryName(sql string) (name, text string) {
	text = strings.TrimSpace(sql)
	if rest, ok := strings.CutPrefix(text, "-- name: "); ok {
		head, body, _ := strings.Cut(rest, "\n")
		name, _, _ = strings.Cut(head, " ")
		return name, strings.TrimSpace(body)
	}
	if i := strings.IndexAny(text, " \t\n;("); i > 0 {
		return strings.ToUpper(text[:i]), text
	}
	return strings.ToUpper(text), text
}
