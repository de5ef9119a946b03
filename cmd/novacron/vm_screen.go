package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newVMVNC(e *env) *cobra.Command {
	var (
		w      waiting
		watch  bool
		listen string
	)
	cmd := &cobra.Command{
		Use: "vnc VM", Short: "Let VNC viewers of this computer connect to the screen of a machine", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Listen on an address of this computer, and connect every VNC viewer that comes there to the screen of a machine, until Ctrl-C.\n" +
			"Whoever can reach the address gets to the screen, so keep it a loopback one.",
		Example: "  novacron vm vnc web-1 --listen 127.0.0.1:5901 &\n  vncviewer 127.0.0.1:5901",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ctx, cancel := w.limit(cmd.Context(), "the screen of "+target.name)
			defer cancel()
			how := apiclient.ConsoleOpen{Kind: "vnc", ReadOnly: watch}
			first, err := c.OpenConsole(ctx, target.id, how) // what cannot be is told now, and not to a viewer that cannot show it
			if err != nil {
				return err
			}
			_ = first.Close()
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
			if err != nil {
				return usageError{"--listen: " + err.Error()}
			}
			if _, err := fmt.Fprintf(e.out, "Connect a VNC viewer to %s. Ctrl-C ends.\n", listener.Addr()); err != nil {
				return errors.Join(err, listener.Close())
			}
			return e.serveViewers(ctx, listener, c, target.id, how)
		},
	}
	w.addTimeout(cmd)
	cmd.Flags().Lookup("timeout").Usage = "end after this time, for example 30m; 0 stays"
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	cmd.Flags().BoolVar(&watch, "watch", false, "watch only: neither keys nor pointer reach the guest")
	return cmd
}

// serveViewers connects each viewer by a console of its own, until ctx ends.
func (e *env) serveViewers(ctx context.Context, listener net.Listener, c *apiclient.Client, id uuid.UUID, how apiclient.ConsoleOpen) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	var viewers sync.WaitGroup
	defer viewers.Wait()
	for {
		viewer, err := listener.Accept()
		if err != nil {
			_ = listener.Close()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for viewers: %w", err)
		}
		viewers.Go(func() { // ends with the viewer, the guest's screen, or ctx
			if err := passOn(ctx, viewer, c, id, how); err != nil && ctx.Err() == nil {
				e.explain(err)
			}
		})
	}
}

func passOn(ctx context.Context, viewer net.Conn, c *apiclient.Client, id uuid.UUID, how apiclient.ConsoleOpen) error {
	defer viewer.Close()
	console, err := c.OpenConsole(ctx, id, how)
	if err != nil {
		return err
	}
	screen := console.Conn(ctx)
	defer screen.Close()
	defer context.AfterFunc(ctx, func() { _ = viewer.Close() })()
	var back sync.WaitGroup
	back.Go(func() { // ends with either
		_, _ = io.Copy(viewer, screen) // the viewer tells how it ended
		_ = viewer.Close()
	})
	_, _ = io.Copy(screen, viewer)
	_ = screen.Close()
	back.Wait()
	return nil
}

func newVMScreenshot(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "screenshot VM FILE", Short: "Take a picture of the screen of a machine, as PNG; - writes it to standard output", Args: cobra.ExactArgs(2),
		ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			picture, err := c.Screenshot(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			if args[1] == "-" {
				_, err := e.out.Write(picture)
				return err
			}
			return os.WriteFile(args[1], picture, 0o600)
		},
	}
}
