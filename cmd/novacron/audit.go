package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newAudit(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit trail: who did what, and whether it is as it was written",
		Long: "The audit trail has a record of every call that changed something and of every refusal. Its records are chained by hashes, so that what was\n" +
			"changed, removed or added afterwards shows."}
	cmd.AddCommand(newAuditSearch(e), newAuditShow(e), newAuditExport(e), newAuditVerify(e))
	return cmd
}

// auditFlags are the flags that narrow a search or an export.
type auditFlags struct {
	filter       apiclient.AuditFilter
	since, until string
}

func (a *auditFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.filter.User, "user", "", "name or id of who called")
	f.StringVar(&a.filter.Action, "action", "", "action, or the beginning of one with * at its end, such as 'vm.*'")
	f.StringVar(&a.filter.Target, "target", "", "id of what the call was about")
	f.StringVar(&a.filter.TargetKind, "kind", "", "kind of what the call was about, such as vm")
	f.StringVar(&a.filter.Result, "result", "", "success, refused, failed, error, unknown, or bad: everything but success")
	f.StringVar(&a.filter.Module, "module", "", "module that took the call")
	f.StringVar(&a.filter.Tenant, "tenant-id", "", "id of the tenant that was acted in")
	f.StringVar(&a.filter.Address, "address", "", "address that the call came from")
	f.StringVar(&a.filter.RequestID, "request", "", "id of the request")
	f.StringVar(&a.filter.APIKey, "apikey-id", "", "id of the API key that was used")
	f.StringVar(&a.since, "since", "", "calls since then: 30m, 12h or 7d ago, or a date such as 2027-01-31")
	f.StringVar(&a.until, "until", "", "calls before then")
}

func (a *auditFlags) parse(now time.Time) (apiclient.AuditFilter, error) {
	f := a.filter
	for flag, part := range map[string]struct {
		text string
		into *time.Time
	}{"since": {a.since, &f.Since}, "until": {a.until, &f.Until}} {
		if part.text == "" {
			continue
		}
		t, err := parseMoment(part.text, now)
		if err != nil {
			return f, usageError{"--" + flag + ": " + err.Error()}
		}
		*part.into = t
	}
	return f, nil
}

// parseMoment reads a moment: so long ago, or a date.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	ago, err := parseSpan(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a length of time such as 12h or 7d nor a date such as 2027-01-31", text)
	}
	return now.Add(-ago), nil
}

func auditID(r apiclient.AuditRecord) string { return r.ID.String() }

func auditWho(r apiclient.AuditRecord) string {
	switch {
	case r.Username != "":
		return printable(r.Username)
	case r.UserID != uuid.Nil:
		return r.UserID.String()
	}
	return ""
}

func auditTarget(r apiclient.AuditRecord) string {
	return printable(strings.TrimSpace(r.TargetKind + " " + r.TargetID))
}

func newAuditSearch(e *env) *cobra.Command {
	var (
		flags auditFlags
		most  int
	)
	cmd := &cobra.Command{
		Use: "search", Aliases: []string{"list", "ls"}, Short: "Search the audit trail, newest first", Args: cobra.NoArgs,
		Example: "  novacron audit search --user ada --since 7d\n  novacron audit search --action 'vm.*' --result bad\n  novacron audit search --target 0199… -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := flags.parse(time.Now())
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			records, err := apiclient.Collect(c.SearchAudit(cmd.Context(), filter, most))
			if err != nil {
				return err
			}
			return printList(e, records, auditID, []column[apiclient.AuditRecord]{
				{"TIME", func(r apiclient.AuditRecord) string { return clock(r.Time) }},
				{"USER", auditWho},
				{"ACTION", func(r apiclient.AuditRecord) string { return printable(r.Action) }},
				{"TARGET", auditTarget},
				{"RESULT", func(r apiclient.AuditRecord) string { return r.Result }},
				{"CODE", func(r apiclient.AuditRecord) string { return printable(r.Code) }},
				{"ADDRESS", func(r apiclient.AuditRecord) string { return printable(r.Address) }},
				{"ID", auditID},
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&most, "limit", 100, "the most records to show; 0: all")
	return cmd
}

func newAuditShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an audit record", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usageError{fmt.Sprintf("%q is not the id of an audit record", args[0])}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			record, err := c.GetAuditRecord(cmd.Context(), id)
			if err != nil {
				return err
			}
			return printObject(e, record, auditID, func(r apiclient.AuditRecord) [][]string {
				known := func(id uuid.UUID) string {
					if id == uuid.Nil {
						return ""
					}
					return id.String()
				}
				fields := [][]string{{"number", strconv.FormatInt(r.Seq, 10)}, {"id", r.ID.String()}, {"time", clock(r.Time)}, {"user", auditWho(r)},
					{"API key", known(r.APIKeyID)}, {"tenant", known(r.TenantID)}, {"address", printable(r.Address)}, {"user agent", printable(r.UserAgent)},
					{"action", printable(r.Action)}, {"permission", printable(r.Permission)}, {"target", auditTarget(r)}, {"result", r.Result},
					{"status", strconv.Itoa(r.Status)}, {"code", printable(r.Code)}, {"calls", strconv.FormatInt(max(r.Count, 1), 10)}, {"module", r.Module},
					{"node", printable(r.Node)}, {"request", printable(r.RequestID)}, {"trace", printable(r.TraceID)}}
				for _, key := range sortedKeys(r.Details) {
					fields = append(fields, []string{printable(key), printable(r.Details[key])})
				}
				return append(fields, []string{"hash", r.Hash})
			})
		},
	}
}

func newAuditExport(e *env) *cobra.Command {
	var (
		flags        auditFlags
		format, file string
	)
	cmd := &cobra.Command{
		Use: "export", Short: "Write the audit trail to a file, oldest first", Args: cobra.NoArgs,
		Example: "  novacron audit export --since 2027-01-01 --file january.jsonl\n  novacron audit export --format csv > audit.csv",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if format != "jsonl" && format != "csv" {
				return usageError{fmt.Sprintf("--format: %q is neither jsonl nor csv", format)}
			}
			filter, err := flags.parse(time.Now())
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			w := e.out
			if file != "" {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return fmt.Errorf("make the file for the export: %w", err)
				}
				defer func() {
					if closed := f.Close(); err == nil && closed != nil {
						err = fmt.Errorf("write the export: %w", closed)
					}
				}()
				w = f
			}
			return c.ExportAudit(cmd.Context(), filter, format, w)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "jsonl", "jsonl: a JSON object in each line, or csv")
	cmd.Flags().StringVar(&file, "file", "", "file to make, readable by you only; default: standard output")
	return cmd
}

func newAuditVerify(e *env) *cobra.Command {
	var expect string
	cmd := &cobra.Command{
		Use: "verify", Short: "Verify that the audit trail is as it was written", Args: cobra.NoArgs,
		Long: "Verify follows the chain of hashes from the oldest record to the newest, and holds it against heads that the server has signed, one of which is kept\n" +
			"outside of the database. It names the first record that was changed, removed, added or moved, and tells when the end was cut off. It ends with\n" +
			"code 1 when anything is wrong.\n\n" +
			"It prints the head of the chain. Keep that elsewhere and pass it with --expect later: so even whoever controls the server cannot write the\n" +
			"past anew unnoticed.",
		Example: "  novacron audit verify\n  novacron audit verify --expect 4711:6f1c…",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			r, err := c.VerifyAudit(cmd.Context(), expect, nil)
			if err != nil {
				return err
			}
			switch {
			case e.quiet:
				_, err = fmt.Fprintln(e.out, r.Head)
			case e.forScripts():
				err = e.document(r)
			default:
				rows := [][]string{{"trail", intact(r)}, {"records", strconv.FormatInt(r.Verified, 10)}, {"signed heads", strconv.Itoa(r.Checkpoints)}, {"head", r.Head}}
				if r.Begins > 0 {
					rows = append(rows, []string{"removed by age", "up to number " + strconv.FormatInt(r.Begins, 10)})
				}
				if r.SignedAt != nil {
					rows = append(rows, []string{"end signed", clock(*r.SignedAt)})
				}
				err = writeTable(e.out, nil, rows)
			}
			switch {
			case err != nil:
				return err
			case r.Broken != nil:
				return fmt.Errorf("the audit trail is broken at record %d: %s", r.Broken.Seq, r.Broken.Reason)
			case !r.Anchored && r.Verified > 0:
				_, err = fmt.Fprintln(e.errOut, "There is no signed head outside of the database yet, so it cannot be told whether the end was cut off.")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&expect, "expect", "", "head that was kept, NUMBER:HASH: the trail must hold it")
	return cmd
}

func intact(r apiclient.AuditReport) string {
	if r.Broken != nil {
		return "broken"
	}
	return "intact"
}
