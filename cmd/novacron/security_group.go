package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newSecurityGroup(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "security-group", Aliases: []string{"sg"}, Short: "What machines may send and receive"}
	rule := &cobra.Command{Use: "rule", Short: "Rules of a security group"}
	rule.AddCommand(newRuleAdd(e), newRuleRemove(e))
	cmd.AddCommand(newGroupList(e), newGroupCreate(e), newGroupShow(e), newGroupUpdate(e), newGroupDelete(e), rule)
	return cmd
}

func groupID(g vm.SecurityGroup) string { return g.ID.String() }

func newGroupList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List security groups, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			groups, err := apiclient.Collect(c.ListSecurityGroups(cmd.Context(), "", 0))
			if err != nil {
				return err
			}
			return printList(e, groups, groupID, []column[vm.SecurityGroup]{
				{"NAME", func(g vm.SecurityGroup) string { return g.Name }},
				{"RULES", func(g vm.SecurityGroup) string { return strconv.Itoa(len(g.Rules)) }},
				{"DEFAULT", func(g vm.SecurityGroup) string { return yes(g.Default) }},
				{"DESCRIPTION", func(g vm.SecurityGroup) string { return g.Description }},
				{"ID", groupID},
			})
		},
	}
}

func newGroupCreate(e *env) *cobra.Command {
	var (
		body  apiclient.SecurityGroupCreate
		bare  bool
		allow []string
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a security group that lets everything out", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron security-group create web --allow tcp/80 --allow tcp/443 --allow tcp/22@192.0.2.0/24",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			if !bare {
				body.Rules = append(body.Rules, apiclient.SecurityRule{Direction: "egress"})
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			for _, text := range allow {
				rule, err := parseRule(cmd.Context(), c, "ingress", text)
				if err != nil {
					return err
				}
				body.Rules = append(body.Rules, rule)
			}
			group, err := c.CreateSecurityGroup(cmd.Context(), body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, group, groupID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Created security group %s with %d rules (%s)\n", group.Value.Name, len(group.Value.Rules), group.Value.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&body.Description, "description", "", "what it is for")
	cmd.Flags().StringArrayVar(&allow, "allow", nil, "rule for what comes in, as PROTOCOL[/PORT[-PORT]][@RANGE or @GROUP]; may be repeated")
	cmd.Flags().BoolVar(&bare, "no-egress", false, "let nothing out")
	return cmd
}

// parseRule reads tcp/80-90@192.0.2.0/24, udp/53@dns, icmp and any.
func parseRule(ctx context.Context, c *apiclient.Client, direction, text string) (apiclient.SecurityRule, error) {
	rule := apiclient.SecurityRule{Direction: direction}
	what, remote, hasRemote := strings.Cut(text, "@")
	protocol, ports, hasPorts := strings.Cut(what, "/")
	rule.Protocol = protocol
	if hasPorts {
		first, last, isRange := strings.Cut(ports, "-")
		var err, lastErr error
		rule.PortMin, err = strconv.Atoi(first)
		rule.PortMax = rule.PortMin
		if isRange {
			rule.PortMax, lastErr = strconv.Atoi(last)
		}
		if err != nil || lastErr != nil {
			return rule, usageError{fmt.Sprintf("%q is no port or range of ports", ports)}
		}
	}
	switch {
	case !hasRemote:
	case strings.Contains(remote, "/"):
		rule.RemoteCIDR = remote
	default:
		group, err := findSecurityGroup(ctx, c, remote)
		if err != nil {
			return rule, err
		}
		rule.RemoteGroupID = &group.id
	}
	return rule, nil
}

// ruleText is the way back.
func ruleText(r vm.SecurityRule) string {
	text := r.Protocol
	if r.PortMin != 0 {
		text += "/" + strconv.Itoa(r.PortMin)
		if r.PortMax != r.PortMin {
			text += "-" + strconv.Itoa(r.PortMax)
		}
	}
	switch {
	case r.RemoteCIDR != "":
		text += "@" + r.RemoteCIDR
	case r.RemoteGroupID != nil:
		text += "@" + r.RemoteGroupID.String()
	}
	return text
}

func newGroupShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show GROUP", Short: "Show a security group with its rules", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, groupNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findSecurityGroup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			group, err := c.GetSecurityGroup(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, group, groupID, func(g vm.SecurityGroup) [][]string {
				fields := [][]string{{"name", g.Name}, {"id", g.ID.String()}, {"description", g.Description}, {"default", yes(g.Default)}}
				for _, r := range g.Rules {
					fields = append(fields, []string{r.Direction, ruleText(r) + "  (" + r.ID.String() + ")"})
				}
				return fields
			})
		},
	}
}

func newGroupUpdate(e *env) *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use: "update GROUP", Short: "Change name or description of a security group", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, groupNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.SecurityGroupUpdate
			if name != "" {
				body.Name = &name
			}
			if cmd.Flags().Changed("description") {
				body.Description = &description
			}
			if body == (apiclient.SecurityGroupUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findSecurityGroup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			group, err := c.UpdateSecurityGroup(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, group, groupID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Changed security group %s (%s)\n", group.Value.Name, group.Value.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func newGroupDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete GROUP", Aliases: []string{"rm"}, Short: "Delete a security group that nothing refers to", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, groupNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findSecurityGroup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteSecurityGroup(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("security group", target)
		},
	}
}

func newRuleAdd(e *env) *cobra.Command {
	var egress bool
	cmd := &cobra.Command{
		Use: "add GROUP RULE", Short: "Add a rule, in force at once", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, groupNames),
		Example: "  novacron security-group rule add web tcp/8000-8080@192.0.2.0/24\n  novacron security-group rule add db tcp/5432@web\n  novacron security-group rule add web udp/53 --egress",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			group, err := findSecurityGroup(ctx, c, args[0])
			if err != nil {
				return err
			}
			direction := "ingress"
			if egress {
				direction = "egress"
			}
			rule, err := parseRule(ctx, c, direction, args[1])
			if err != nil {
				return err
			}
			added, err := c.AddRule(ctx, group.id, rule)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, added, func(r vm.SecurityRule) string { return r.ID.String() }, nil)
			}
			_, err = fmt.Fprintf(e.out, "Added to security group %s: %s %s (%s)\n", group.name, added.Value.Direction, ruleText(added.Value), added.Value.ID)
			return err
		},
	}
	cmd.Flags().BoolVar(&egress, "egress", false, "for what guests send, instead of what they receive")
	return cmd
}

func newRuleRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove GROUP RULE-ID", Aliases: []string{"rm"}, Short: "Take a rule away, also from open connections", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, groupNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			rule, err := uuid.Parse(args[1])
			if err != nil {
				return usageError{fmt.Sprintf("%q is no id of a rule; see 'novacron security-group show'", args[1])}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			group, err := findSecurityGroup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.RemoveRule(cmd.Context(), group.id, rule); err != nil {
				return err
			}
			return e.deleted("rule", named{rule, rule.String()})
		},
	}
}
