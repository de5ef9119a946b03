package main

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newSession(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "session", Short: "Your open sessions"}
	cmd.AddCommand(newSessionList(e), newSessionRevoke(e))
	return cmd
}

func newSessionList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List your open sessions, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			sessions, err := apiclient.Collect(c.ListSessions(cmd.Context(), 0))
			if err != nil {
				return err
			}
			return printList(e, sessions, func(s auth.Session) string { return s.ID.String() }, []column[auth.Session]{
				{"CURRENT", func(s auth.Session) string {
					if s.Current {
						return "*"
					}
					return ""
				}},
				{"ID", func(s auth.Session) string { return s.ID.String() }},
				{"FROM", func(s auth.Session) string { return printable(s.IP) }},
				{"CLIENT", func(s auth.Session) string { return printable(s.UserAgent) }},
				{"BEGUN", func(s auth.Session) string { return clock(s.CreatedAt) }},
				{"LAST USED", func(s auth.Session) string { return clock(s.LastUsedAt) }},
				{"ENDS", func(s auth.Session) string { return clock(s.ExpiresAt) }},
			})
		},
	}
}

func newSessionRevoke(e *env) *cobra.Command {
	var others, all bool
	cmd := &cobra.Command{
		Use: "revoke [ID...]", Aliases: []string{"rm"}, Short: "End sessions of yours, at once", Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron session revoke --others\n  novacron session revoke 0193a6f2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			if n := len(args); (n > 0) == (others || all) || others && all {
				return usageError{"give the ids of sessions, or --others, or --all"}
			}
			ids := make([]uuid.UUID, len(args))
			for i, text := range args {
				var err error
				if ids[i], err = uuid.Parse(text); err != nil {
					return usageError{fmt.Sprintf("%q is not the id of a session; see 'novacron session list'", text)}
				}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			if others || all {
				return e.done(c.RevokeSessions(cmd.Context(), others), "Your sessions have ended%s.\n", map[bool]string{true: ", but for this one"}[others])
			}
			for _, id := range ids {
				if err := c.RevokeSession(cmd.Context(), id); err != nil {
					return err
				}
			}
			return e.done(nil, "Ended %d.\n", len(ids))
		},
	}
	cmd.Flags().BoolVar(&others, "others", false, "all but the one of this login")
	cmd.Flags().BoolVar(&all, "all", false, "all of them, this login's too")
	return cmd
}
