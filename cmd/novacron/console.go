package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// escape leaves the console: Ctrl-].
const escape = 0x1d

// console connects the terminal to a virtual machine's serial console.
func (c *cli) console() *cobra.Command {
	return &cobra.Command{
		Use: "console NAME|ID", Short: "Connect to the serial console of a virtual machine; Ctrl-] leaves", Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.complete(vms),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), client, vms.path, vms.what, args[0])
			if err != nil {
				return err
			}
			var ticket struct{ URL string }
			if err := client.Do(cmd.Context(), http.MethodPost, vms.path+"/"+id+"/console", nil, &ticket); err != nil {
				return err
			}
			conn, _, err := websocket.Dial(cmd.Context(), client.Server+ticket.URL, nil) //nolint:bodyclose // the library has closed it
			if err != nil {
				return fmt.Errorf("connect to console: %w", err)
			}
			defer conn.CloseNow()
			conn.SetReadLimit(1 << 20)
			fmt.Fprintf(cmd.ErrOrStderr(), "Connected to the console of %s. Ctrl-] leaves.\r\n", args[0])
			if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				state, err := term.MakeRaw(int(f.Fd()))
				if err != nil {
					return fmt.Errorf("prepare terminal: %w", err)
				}
				defer func() { _ = term.Restore(int(f.Fd()), state) }()
			}
			return pump(cmd.Context(), conn, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// pump carries bytes both ways until one side ends.
func pump(ctx context.Context, conn *websocket.Conn, in io.Reader, out io.Writer) error {
	typed := make(chan error, 1)
	go func() { // ends with the input, or with the process: a read of a terminal cannot be interrupted
		buf := make([]byte, 1024)
		for {
			n, err := in.Read(buf)
			for i := range n {
				if buf[i] == escape {
					n, err = i, io.EOF
					break
				}
			}
			if n > 0 {
				if wErr := conn.Write(ctx, websocket.MessageBinary, buf[:n]); wErr != nil {
					err = wErr
				}
			}
			if err != nil {
				typed <- err
				return
			}
		}
	}()
	shown := make(chan error, 1)
	go func() { // ends with the connection
		for {
			_, data, err := conn.Read(ctx)
			if err == nil {
				_, err = out.Write(data)
			}
			if err != nil {
				shown <- err
				return
			}
		}
	}()
	select {
	case err := <-typed:
		_ = conn.Close(websocket.StatusNormalClosure, "left")
		if !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	case err := <-shown:
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			fmt.Fprintf(os.Stderr, "\r\nThe console was closed: %s\r\n", closed.Reason)
			return nil
		}
		return err
	}
}
