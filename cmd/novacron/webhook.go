package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newWebhook(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "webhook", Short: "Addresses that events are sent to"}
	cmd.AddCommand(newWebhookList(e), newWebhookCreate(e), newWebhookUpdate(e), newWebhookRotate(e), newWebhookDelete(e), newWebhookTest(e), newDeliveries(e), newRedeliver(e))
	return cmd
}

func webhookID(w vm.Webhook) string { return w.ID.String() }

func newWebhookList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List webhooks, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			hooks, err := apiclient.Collect(c.ListWebhooks(cmd.Context(), "", 0))
			if err != nil {
				return err
			}
			return printList(e, hooks, webhookID, []column[vm.Webhook]{
				{"NAME", func(w vm.Webhook) string { return w.Name }},
				{"URL", func(w vm.Webhook) string { return w.URL }},
				{"EVENTS", func(w vm.Webhook) string { return strings.Join(w.Events, ",") }},
				{"ENABLED", func(w vm.Webhook) string { return cmp.Or(w.DisabledReason, yes(w.Enabled)) }},
				{"ID", webhookID},
			})
		},
	}
}

// printWebhook tells of a webhook, and shows the secret where there is one: nobody can ask for it later.
func printWebhook(e *env, verb string, w apiclient.Object[vm.Webhook]) error {
	if e.quiet || e.forScripts() {
		return printObject(e, w, webhookID, nil)
	}
	if _, err := fmt.Fprintf(e.out, "%s webhook %s (%s)\n", verb, w.Value.Name, w.Value.ID); err != nil {
		return err
	}
	if w.Value.Secret == "" {
		return nil
	}
	_, err := fmt.Fprintf(e.out, "Its secret, which is not shown again: %s\n", w.Value.Secret)
	return err
}

// changeWebhook runs a command that names a webhook.
func (e *env) changeWebhook(cmd *cobra.Command, arg, verb string, change func(*apiclient.Client, uuid.UUID) (apiclient.Object[vm.Webhook], error)) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	target, err := findWebhook(cmd.Context(), c, arg)
	if err != nil {
		return err
	}
	w, err := change(c, target.id)
	if err != nil {
		return err
	}
	return printWebhook(e, verb, w)
}

func newWebhookCreate(e *env) *cobra.Command {
	var body apiclient.WebhookCreate
	cmd := &cobra.Command{
		Use: "create NAME URL", Short: "Have events sent to an address", Args: cobra.ExactArgs(2), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron webhook create chat https://hooks.example.org/novacron --event failed --event 'volume.*'",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name, body.URL = args[0], args[1]
			c, err := e.connect()
			if err != nil {
				return err
			}
			w, err := c.CreateWebhook(cmd.Context(), body)
			if err != nil {
				return err
			}
			return printWebhook(e, "Created", w)
		},
	}
	cmd.Flags().StringSliceVar(&body.Events, "event", nil, "type of events, or a kind such as volume.*; may be repeated (default: all)")
	return cmd
}

func newWebhookUpdate(e *env) *cobra.Command {
	var (
		body            apiclient.WebhookUpdate
		address         string
		enable, disable bool
	)
	cmd := &cobra.Command{
		Use: "update WEBHOOK", Short: "Change a webhook, or switch it off and on", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if address != "" {
				body.URL = &address
			}
			if enable || disable {
				body.Enabled = &enable
			}
			if body.URL == nil && body.Enabled == nil && body.Events == nil {
				return usageError{"nothing is to be changed; see --help"}
			}
			return e.changeWebhook(cmd, args[0], "Changed", func(c *apiclient.Client, id uuid.UUID) (apiclient.Object[vm.Webhook], error) {
				return c.UpdateWebhook(cmd.Context(), id, body)
			})
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "new address")
	cmd.Flags().StringSliceVar(&body.Events, "event", nil, "types of events, instead of those before")
	cmd.Flags().BoolVar(&enable, "enable", false, "send again")
	cmd.Flags().BoolVar(&disable, "disable", false, "send no longer")
	cmd.MarkFlagsMutuallyExclusive("enable", "disable")
	return cmd
}

func newWebhookRotate(e *env) *cobra.Command {
	var overlap time.Duration
	cmd := &cobra.Command{
		Use: "rotate-secret WEBHOOK", Short: "Give a webhook a new secret", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeWebhook(cmd, args[0], "Changed", func(c *apiclient.Client, id uuid.UUID) (apiclient.Object[vm.Webhook], error) {
				return c.RotateWebhook(cmd.Context(), id, int(overlap/time.Second))
			})
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "so long the old secret signs, too")
	return cmd
}

func newWebhookDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete WEBHOOK", Aliases: []string{"rm"}, Short: "Delete a webhook with what it was to be sent", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findWebhook(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteWebhook(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("webhook", target)
		},
	}
}

func deliveryID(d vm.WebhookDelivery) string { return d.ID.String() }

func printDelivery(e *env, d apiclient.Object[vm.WebhookDelivery]) error {
	if e.quiet || e.forScripts() {
		return printObject(e, d, deliveryID, nil)
	}
	_, err := fmt.Fprintf(e.out, "Delivery %s is %s; 'novacron webhook deliveries' tells what became of it\n", d.Value.ID, d.Value.Status)
	return err
}

func newWebhookTest(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "test WEBHOOK", Short: "Send a webhook an event of type test", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findWebhook(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			d, err := c.TestWebhook(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printDelivery(e, d)
		},
	}
}

func newDeliveries(e *env) *cobra.Command {
	var status string
	cmd := &cobra.Command{
		Use: "deliveries WEBHOOK", Short: "List what a webhook was sent, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findWebhook(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			list, err := apiclient.Collect(c.ListDeliveries(cmd.Context(), target.id, status, 200))
			if err != nil {
				return err
			}
			return printList(e, list, deliveryID, []column[vm.WebhookDelivery]{
				{"EVENT", func(d vm.WebhookDelivery) string { return d.EventType }},
				{"STATUS", func(d vm.WebhookDelivery) string { return string(d.Status) }},
				{"ATTEMPTS", func(d vm.WebhookDelivery) string { return strconv.Itoa(d.Attempts) }},
				{"ANSWER", func(d vm.WebhookDelivery) string {
					if d.ResponseStatus != nil {
						return strconv.Itoa(*d.ResponseStatus)
					}
					return d.Error
				}},
				{"CREATED", func(d vm.WebhookDelivery) string { return d.CreatedAt.UTC().Format(time.RFC3339) }},
				{"ID", deliveryID},
			})
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those: pending, delivered, dead")
	return cmd
}

func newRedeliver(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "redeliver WEBHOOK DELIVERY-ID", Short: "Make a delivery anew", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, webhookNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			delivery, err := uuid.Parse(args[1])
			if err != nil {
				return usageError{fmt.Sprintf("%q is no id of a delivery; see 'novacron webhook deliveries'", args[1])}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findWebhook(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			d, err := c.Redeliver(cmd.Context(), target.id, delivery)
			if err != nil {
				return err
			}
			return printDelivery(e, d)
		},
	}
}
