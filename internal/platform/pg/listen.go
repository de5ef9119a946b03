package pg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// listenPause is how long it is until a connection that broke is made anew.
const listenPause = time.Second

// Listen hands the payloads of a channel's notices to each, one at a time, until ctx ends. It has a connection of its own. While that is
// broken notices are lost, and broken is told why: whoever depends on them looks for themselves from time to time.
func Listen(ctx context.Context, pool *pgxpool.Pool, channel string, each func(payload string), broken func(error)) {
	for ctx.Err() == nil {
		err := listenOnce(ctx, pool, channel, each)
		if ctx.Err() != nil {
			return
		}
		broken(err)
		timer := time.NewTimer(listenPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listenOnce listens until the connection breaks.
func listenOnce(ctx context.Context, pool *pgxpool.Pool, channel string, each func(string)) error {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen: %w", Map(err))
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // there is nothing to lose on it
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", Map(err))
	}
	for {
		notice, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", Map(err))
		}
		each(notice.Payload)
	}
}
