package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newAPIKey(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apikey", Aliases: []string{"api-key"}, Short: "API keys, for programs that act for you or for a service account",
		Long: "API keys, for programs that act for you or for a service account. A key is named by its id, its name, or what it begins with (nck_…).",
	}
	cmd.AddCommand(newAPIKeyCreate(e), newAPIKeyList(e), newAPIKeyShow(e), newAPIKeyRotate(e), newAPIKeyRevoke(e))
	return cmd
}

func apiKeyID(k auth.APIKey) string            { return k.ID.String() }
func newAPIKeyID(k apiclient.NewAPIKey) string { return k.ID.String() }
func permissionsText(permissions []string) string {
	if permissions == nil {
		return "all of its owner"
	}
	return strings.Join(permissions, " ")
}

func newAPIKeyCreate(e *env) *cobra.Command {
	var body apiclient.APIKeyCreate
	var user, ends, file string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an API key, which is shown this one time", Args: cobra.ExactArgs(1),
		Long: "Make an API key. It does what its owner may do at the time of use, as far as --permission lets it. The key is shown this one time: with\n" +
			"--save it goes into a file that only you can read, and is not shown at all.",
		Example: "  novacron apikey create ci --permission vm:read --permission 'image:*' --expires 90d --save ci.key\n" +
			"  novacron apikey create backup --user backup-robot",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			body.Name = args[0]
			if body.ExpiresAt, err = parseEnd(ends, time.Now()); err != nil {
				return err
			}
			if user != "" {
				owner, err := findUser(cmd.Context(), c, user)
				if err != nil {
					return err
				}
				body.UserID = owner.id
			}
			return e.tellKey(file, "made", func() (apiclient.Object[apiclient.NewAPIKey], error) { return c.CreateAPIKey(cmd.Context(), body) })
		},
	}
	cmd.Flags().StringArrayVarP(&body.Permissions, "permission", "p", nil, "what the key may do, such as vm:read or 'vm:*'; may be repeated (default: what its owner may)")
	cmd.Flags().StringVar(&body.Scope, "scope", "", "tenant or platform: how far the key reaches at most (default: as far as you)")
	cmd.Flags().StringVar(&user, "user", "", "user or service account that the key is for (default: you)")
	expiresFlag(cmd, &ends)
	saveFlag(cmd, &file)
	must(cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"tenant", "platform"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func expiresFlag(cmd *cobra.Command, ends *string) {
	cmd.Flags().StringVar(ends, "expires", "", "when the key ends: after a time such as 12h or 90d, or at a date such as 2027-01-31 or 2027-01-31T12:00:00Z")
}

func saveFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "save", "", "new file to write the key to, instead of showing it")
}

// tellKey makes a key and tells it, or writes it to a new file. The file is made before the key, so that none is made that could not be kept.
func (e *env) tellKey(file, done string, ask func() (apiclient.Object[apiclient.NewAPIKey], error)) error {
	var f *os.File
	if file != "" {
		var err error
		if f, err = os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("make the file for the key: %w", err)
		}
	}
	k, err := ask()
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(file))
		}
		return err
	}
	if f != nil {
		_, err := f.WriteString(k.Value.Key + "\n")
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("write the key: %w; revoke it with 'novacron apikey revoke %s'", err, k.Value.ID)
		}
		if e.quiet {
			_, err = fmt.Fprintln(e.out, k.Value.ID)
			return err
		}
		if e.forScripts() { // all but the secret
			return printObject(e, apiclient.Object[auth.APIKey]{Value: k.Value.APIKey}, apiKeyID, nil)
		}
		_, err = fmt.Fprintf(e.out, "API key %s (%s) is %s and in %s.\n", printable(k.Value.Name), k.Value.Prefix, done, file)
		return err
	}
	if e.quiet { // who asks for little wants what is told this one time
		_, err := fmt.Fprintln(e.out, k.Value.Key)
		return err
	}
	return printObject(e, k, newAPIKeyID, func(k apiclient.NewAPIKey) [][]string {
		return append(apiKeyFields(k.APIKey), []string{"key", k.Key}, []string{"", "It is shown this one time only."})
	})
}

func apiKeyFields(k auth.APIKey) [][]string {
	fields := [][]string{{"name", printable(k.Name)}, {"id", k.ID.String()}, {"prefix", k.Prefix}, {"owner", k.Username}, {"permissions", permissionsText(k.Permissions)},
		{"reach", string(k.Scope)}, {"expires", endText(k.ExpiresAt)}, {"last used", endText(k.LastUsedAt)}, {"last used from", k.LastUsedIP}, {"made", clock(k.CreatedAt)}}
	if k.RotatedAt != nil {
		fields = append(fields, []string{"rotated", clock(*k.RotatedAt)})
	}
	if k.OldSecretsUntil != nil {
		fields = append(fields, []string{"old secret until", clock(*k.OldSecretsUntil)})
	}
	return fields
}

func endText(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return clock(*t)
}

func newAPIKeyList(e *env) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List API keys: yours, and those of others where you may see users", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			var filter apiclient.APIKeyFilter
			if user != "" {
				owner, err := findUser(cmd.Context(), c, user)
				if err != nil {
					return err
				}
				filter.UserID = owner.id
			}
			keys, err := apiclient.Collect(c.ListAPIKeys(cmd.Context(), filter))
			if err != nil {
				return err
			}
			return printList(e, keys, apiKeyID, []column[auth.APIKey]{
				{"NAME", func(k auth.APIKey) string { return printable(k.Name) }},
				{"PREFIX", func(k auth.APIKey) string { return k.Prefix }},
				{"OWNER", func(k auth.APIKey) string { return k.Username }},
				{"PERMISSIONS", func(k auth.APIKey) string {
					if n := len(k.Permissions); n > 3 {
						return strings.Join(k.Permissions[:3], " ") + " +" + strconv.Itoa(n-3)
					}
					return permissionsText(k.Permissions)
				}},
				{"EXPIRES", func(k auth.APIKey) string { return endText(k.ExpiresAt) }},
				{"LAST USED", func(k auth.APIKey) string { return endText(k.LastUsedAt) }},
				{"ID", apiKeyID},
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only keys of this user or service account")
	return cmd
}

func newAPIKeyShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Short: "Show an API key, without its secret", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, apiKeyNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findAPIKey(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			k, err := c.GetAPIKey(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, k, apiKeyID, apiKeyFields)
		},
	}
}

func newAPIKeyRotate(e *env) *cobra.Command {
	var overlap, ends, file string
	cmd := &cobra.Command{
		Use: "rotate KEY", Short: "Give an API key a new secret, which is shown this one time", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, apiKeyNames),
		Long:    "Give an API key a new secret. The old one works for the time of --overlap more, so that it can be replaced where it is used.",
		Example: "  novacron apikey rotate ci --overlap 2d --save ci.new\n  novacron apikey rotate ci --overlap 0   # the old one was stolen",
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.APIKeyRotate
			var err error
			if body.ExpiresAt, err = parseEnd(ends, time.Now()); err != nil {
				return err
			}
			if overlap != "" {
				d, err := parseSpan(overlap)
				if err != nil {
					return usageError{"--overlap: " + err.Error()}
				}
				seconds := int64(d / time.Second)
				body.OverlapSeconds = &seconds
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findAPIKey(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return e.tellKey(file, "rotated", func() (apiclient.Object[apiclient.NewAPIKey], error) {
				return c.RotateAPIKey(cmd.Context(), target.id, body)
			})
		},
	}
	cmd.Flags().StringVar(&overlap, "overlap", "", "how long the old secret still works, such as 12h or 7d; 0 ends it at once (default a day)")
	expiresFlag(cmd, &ends)
	saveFlag(cmd, &file)
	return cmd
}

func newAPIKeyRevoke(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke KEY...", Aliases: []string{"delete", "rm"}, Short: "End API keys, everywhere and at once", Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, apiKeyNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			for _, arg := range args {
				target, err := findAPIKey(cmd.Context(), c, arg)
				if err != nil {
					return err
				}
				if err := c.RevokeAPIKey(cmd.Context(), target.id); err != nil {
					return err
				}
				if err := e.tellDone(target, "API key", "revoked"); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// tellDone says what happened to an object: in a word, or by its id.
func (e *env) tellDone(target named, kind, done string) error {
	var err error
	switch {
	case e.quiet:
		_, err = fmt.Fprintln(e.out, target.id)
	case e.forScripts():
		err = e.document(map[string]uuid.UUID{"id": target.id})
	default:
		_, err = fmt.Fprintf(e.out, "%s %s is %s.\n", strings.ToUpper(kind[:1])+kind[1:], printable(target.name), done)
	}
	return err
}

// parseSpan reads a length of time: as Go writes it, or in days.
func parseSpan(text string) (time.Duration, error) {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is not a number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a length of time such as 30m, 12h or 7d", text)
	}
	return d, nil
}

// parseEnd reads when something ends: after a length of time, or at a date. "" is no end.
func parseEnd(text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // there is no end
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return &t, nil
		}
	}
	d, err := parseSpan(text)
	if err != nil || d == 0 {
		return nil, usageError{fmt.Sprintf("--expires: %q is neither a time such as 90d nor a date such as 2027-01-31", text)}
	}
	end := now.Add(d).UTC().Truncate(time.Second)
	return &end, nil
}
