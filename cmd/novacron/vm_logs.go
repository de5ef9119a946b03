package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newVMLogs(e *env) *cobra.Command {
	var (
		follow bool
		tail   int
	)
	cmd := &cobra.Command{
		Use: "logs VM", Short: "Print what a machine wrote to its serial console", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tail < -1 {
				return usageError{"--tail must not be negative"}
			}
			ctx := cmd.Context()
			c, target, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			l := consoleLog{env: e, client: c, id: target.id}
			return l.print(ctx, tail, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what comes, until interrupted")
	cmd.Flags().IntVarP(&tail, "tail", "n", -1, "only so many lines from the end")
	return cmd
}

const (
	followPause = time.Second
	tailBytes   = 256 << 10 // the most the server gives at once; a tail is looked for in there
)

// consoleLog prints the log of one machine.
type consoleLog struct {
	*env
	client *apiclient.Client
	id     uuid.UUID
	next   int64
}

func (l *consoleLog) print(ctx context.Context, tail int, follow bool) error {
	err := l.begin(ctx, tail)
	if follow && isEmptyLog(err) { // the guest may yet write
		err = nil
	}
	if err != nil || !follow {
		return err
	}
	ticker := time.NewTicker(followPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := l.rest(ctx); err != nil && !isEmptyLog(err) {
			return err
		}
	}
}

// begin prints what is there.
func (l *consoleLog) begin(ctx context.Context, tail int) error {
	if tail < 0 {
		return l.rest(ctx)
	}
	chunk, err := l.client.ConsoleLog(ctx, l.id, -tailBytes)
	if err != nil {
		return err
	}
	if _, err := l.out.Write(lastLines(chunk.Data, tail)); err != nil {
		return err
	}
	l.next = chunk.Next()
	return nil
}

// rest prints everything from next on. A log that is shorter than it was has begun anew.
func (l *consoleLog) rest(ctx context.Context) error {
	for {
		chunk, err := l.client.ConsoleLog(ctx, l.id, l.next)
		if err != nil {
			return err
		}
		if chunk.Size < l.next {
			l.next = 0
			continue
		}
		if _, err := l.out.Write(chunk.Data); err != nil {
			return err
		}
		l.next = chunk.Next()
		if l.next >= chunk.Size || len(chunk.Data) == 0 {
			return nil
		}
	}
}

// isEmptyLog tells whether the guest has not written anything yet.
func isEmptyLog(err error) bool {
	var e *apiclient.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code == "vm.no_console_log"
}

// lastLines cuts text to its last n lines.
func lastLines(text []byte, n int) []byte {
	end := len(bytes.TrimSuffix(text, []byte("\n")))
	for at := end; ; {
		if n == 0 {
			return text[min(at+1, len(text)):]
		}
		at = bytes.LastIndexByte(text[:at], '\n')
		if at < 0 {
			return text
		}
		n--
	}
}
