// Package systemd tells the service manager how the process does (sd_notify(3)): ready, stopping, and by watchdog pings that it still
// works. Without systemd, that is without NOTIFY_SOCKET, everything is a no-op. Only the composition root uses it.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells that the process serves.
func Ready(status string) error { return notify(daemon.SdNotifyReady, status) }

// Stopping tells that the process is on its way out.
func Stopping(status string) error { return notify(daemon.SdNotifyStopping, status) }

// Status shows a line in systemctl status.
func Status(status string) error { return notify("", status) }

func notify(state, status string) error {
	if status != "" {
		if state != "" {
			state += "\n"
		}
		state += "STATUS=" + status
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog pings the service manager twice per WatchdogSec for as long as alive answers nil, and until ctx ends. alive has until the next
// ping for its answer. Without a watchdog it returns at once.
func Watchdog(ctx context.Context, log *slog.Logger, alive func(ctx context.Context) error) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read watchdog settings: %w", err)
	}
	if limit <= 0 {
		return nil
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for {
		if err := check(ctx, limit/2, alive); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			log.ErrorContext(ctx, "the process does not work, the watchdog is not pinged", "error", err)
		} else if err := notify(daemon.SdNotifyWatchdog, ""); err != nil {
			log.WarnContext(ctx, "the watchdog could not be pinged", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func check(ctx context.Context, within time.Duration, alive func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return alive(ctx)
}
