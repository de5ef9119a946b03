package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

// cli is what the commands that talk to a server share.
type cli struct {
	server  string
	output  string // table, json or yaml
	quiet   bool
	timeout time.Duration
	noWait  bool
}

// client gives a client with the tokens of the person's login.
func (c *cli) client() (*apiclient.Client, error) {
	sessions, err := apiclient.OpenSessions()
	if err != nil {
		return nil, err
	}
	server := strings.TrimSuffix(c.server, "/")
	if u, err := url.Parse(server); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usageError{fmt.Errorf("--server %q is not an http:// or https:// address", c.server)}
	}
	tokens, err := sessions.Get(server)
	if err != nil {
		return nil, err
	}
	client := &apiclient.Client{Server: server, Save: func(t apiclient.Tokens) error { return sessions.Set(server, t) }}
	client.SetTokens(tokens)
	return client, nil
}

// authenticated gives a client, or says that the person must log in first.
func (c *cli) authenticated() (*apiclient.Client, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if !client.LoggedIn() {
		return nil, apiclient.ErrNotLoggedIn
	}
	return client, nil
}

// column is one column of a table: a heading, and the value of an item.
type column struct {
	head  string
	value func(item map[string]any) string
}

// col shows a field of an item, by its path.
func col(head, path string) column {
	return column{head, func(item map[string]any) string { return show(dig(item, path)) }}
}

// dig follows a dotted path into an object.
func dig(v any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		return fmt.Sprintf("%.0f", v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = show(item)
		}
		return strings.Join(parts, ",")
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.Local().Format("2006-01-02 15:04:05")
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

// print shows objects as the person asked for: a table, ids only, or what the server sent.
func (c *cli) print(w io.Writer, items []json.RawMessage, single bool, columns ...column) error {
	if c.output != "table" && !c.quiet {
		var v any = items
		if single {
			v = items[0]
		}
		return c.printValue(w, v)
	}
	objects := make([]map[string]any, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item, &objects[i]); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
	}
	if c.quiet {
		for _, o := range objects {
			fmt.Fprintln(w, show(dig(o, "id")))
		}
		return nil
	}
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.Options{SeparateColumns: true}
	t.Style().Box.MiddleVertical, t.Style().Format.Header = "  ", text.FormatUpper
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", ""
	header := table.Row{}
	for _, col := range columns {
		header = append(header, col.head)
	}
	t.AppendHeader(header)
	for _, o := range objects {
		row := table.Row{}
		for _, col := range columns {
			value := col.value(o)
			if col.head == "state" || col.head == "status" {
				value = c.colour(w, value)
			}
			row = append(row, value)
		}
		t.AppendRow(row)
	}
	t.Render()
	return nil
}

// printValue writes JSON or YAML, exactly the API's objects.
func (c *cli) printValue(w io.Writer, v any) error {
	encoded, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if c.output == "yaml" {
		var plain any
		if err := json.Unmarshal(encoded, &plain); err != nil {
			return fmt.Errorf("encode output: %w", err)
		}
		if encoded, err = yaml.Marshal(plain); err != nil {
			return fmt.Errorf("encode output: %w", err)
		}
		_, err = w.Write(encoded)
		return err
	}
	_, err = fmt.Fprintln(w, string(encoded))
	return err
}

// colour marks states, on a terminal that may have colours.
func (c *cli) colour(w io.Writer, state string) string {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != "" {
		return state
	}
	switch state {
	case "running", "ready", "active", "succeeded", "healthy":
		return text.FgGreen.Sprint(state)
	case "error", "failed", "unreachable":
		return text.FgRed.Sprint(state)
	case "creating", "importing", "migrating", "pending":
		return text.FgYellow.Sprint(state)
	default:
		return state
	}
}

// resolve finds the object that a person means: by id, or by name where just one has it.
func resolve(ctx context.Context, client *apiclient.Client, collection, what, name string) (string, error) {
	if _, err := uuid.Parse(name); err == nil {
		return name, nil
	}
	items, err := client.List(ctx, collection, url.Values{"name": {name}}, 10)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, item := range items {
		var o struct{ ID, Name string }
		if err := json.Unmarshal(item, &o); err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		if o.Name == name {
			ids = append(ids, o.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", notFoundError{fmt.Errorf("there is no %s named %q", what, name)}
	case 1:
		return ids[0], nil
	default:
		return "", usageError{fmt.Errorf("several %ss are named %q; name one by its id: %s", what, name, strings.Join(ids, " "))}
	}
}

// operation is what the client reads of an operation.
type operation struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`
	TargetID string        `json:"target_id"`
	Status   string        `json:"status"`
	Progress int           `json:"progress"`
	Error    *errs.Problem `json:"error"`
	EndedAt  *time.Time    `json:"ended_at"`
	Steps    []struct {
		Name, Status string
		Error        *errs.Problem
	} `json:"steps"`
}

// failure is the error of an operation that ended other than well.
func (o operation) failure() error {
	if o.Status == "succeeded" || o.EndedAt == nil {
		return nil
	}
	if o.Error == nil {
		return fmt.Errorf("%s ended as %s", o.Kind, o.Status)
	}
	return fmt.Errorf("%s %s: %w", o.Kind, o.Status, &apiclient.Error{Problem: *o.Error})
}

// pollWait is how long one request waits for the end of an operation.
const pollWait = "10s"

// follow waits for the end of an operation, telling of its steps, and answers it as the server sent it last.
func (c *cli) follow(ctx context.Context, client *apiclient.Client, raw json.RawMessage, told io.Writer) (json.RawMessage, operation, error) {
	shown, last := c.newProgress(told), ""
	defer shown.end()
	for {
		var op operation
		if err := json.Unmarshal(raw, &op); err != nil {
			return nil, op, fmt.Errorf("read operation: %w", err)
		}
		step := op.Status
		for _, s := range op.Steps {
			if s.Status == "running" {
				step = s.Name
				if s.Error != nil {
					step += " (waits: " + s.Error.Detail + ")"
				}
			}
		}
		if line := fmt.Sprintf("%s: %s", op.Kind, step); line != last {
			last = line
			shown.tell(op.Progress, line)
		}
		if op.EndedAt != nil || c.noWait {
			return raw, op, nil
		}
		wait := pollWait
		if op.Progress < 100 {
			wait = "1s" // steps of a few seconds are worth telling
		}
		if err := client.Do(ctx, http.MethodGet, "/api/v1/operations/"+op.ID+"?wait="+wait, nil, &raw); err != nil {
			if errors.Is(err, apiclient.ErrUnreachable) { // the server restarts; the operation goes on
				if pErr := apiclient.Pause(ctx, time.Second); pErr != nil {
					return nil, op, errors.Join(err, pErr)
				}
				continue
			}
			return nil, op, err
		}
	}
}

// act sends a request that begins an operation, follows it, and prints it or, where show is given, what it worked on.
func (c *cli) act(cmd *cobra.Command, client *apiclient.Client, method, path string, body any, done string) error {
	var raw json.RawMessage
	if err := client.Do(cmd.Context(), method, path, body, &raw); err != nil {
		return err
	}
	raw, op, err := c.follow(cmd.Context(), client, raw, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	switch {
	case c.output != "table":
		err = c.printValue(cmd.OutOrStdout(), raw)
	case c.quiet:
		fmt.Fprintln(cmd.OutOrStdout(), op.TargetID)
	case op.EndedAt == nil:
		fmt.Fprintf(cmd.OutOrStdout(), "Operation %s is under way; 'novacron operation wait %s' waits for its end.\n", op.ID, op.ID)
	case op.Status == "succeeded":
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n", done)
	}
	return errors.Join(err, op.failure())
}
