package service

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// metaData is the NoCloud meta-data document (cloud-init documentation, "NoCloud").
type metaData struct {
	InstanceID    string   `yaml:"instance-id"`
	LocalHostname string   `yaml:"local-hostname"`
	PublicKeys    []string `yaml:"public-keys,omitempty"`
}

// seedFor makes the NoCloud seed of a virtual machine.
func seedFor(r store.Record) (nodeapi.SeedSpec, error) {
	meta, err := yaml.Marshal(metaData{InstanceID: r.ID.String(), LocalHostname: r.Name, PublicKeys: r.SSHKeys})
	if err != nil {
		return nodeapi.SeedSpec{}, fmt.Errorf("encode meta-data: %w", err)
	}
	user := r.UserData
	if user == "" {
		user = "#cloud-config\n"
		if len(r.SSHKeys) > 0 {
			keys, err := yaml.Marshal(map[string][]string{"ssh_authorized_keys": r.SSHKeys})
			if err != nil {
				return nodeapi.SeedSpec{}, fmt.Errorf("encode user-data: %w", err)
			}
			user += string(keys)
		}
	}
	return nodeapi.SeedSpec{MetaData: string(meta), UserData: user}, nil
}

// maxUserDataNodes bounds what a cloud-config grows to when its aliases are written out: text of the longest length that is taken
// and that uses no alias stays below it.
const maxUserDataNodes = 1 << 17

// checkUserData refuses a cloud-config that is not YAML, because the guest would pass over it in silence, and one whose aliases grow
// without bounds. It looks at the syntax only: cloud-init's own parser takes keys that are told twice, keys that are no text and loose
// base64, and so do its published examples. Other kinds of user-data are the guest's own affair.
func checkUserData(userData, field string, invalid *errs.Error) error {
	first, _, _ := strings.Cut(userData, "\n")
	if strings.TrimSpace(first) != "#cloud-config" {
		return nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(userData), &document); err != nil {
		return invalid.WithField(field, "is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
	}
	if len(document.Content) == 0 {
		return nil
	}
	root := document.Content[0]
	isEmpty := root.Kind == yaml.ScalarNode && root.Tag == "!!null"
	if root.Kind != yaml.MappingNode && !isEmpty {
		return invalid.WithField(field, "must hold a mapping of cloud-config modules", "")
	}
	if expandedNodes(root, map[*yaml.Node]int{}) > maxUserDataNodes {
		return invalid.WithField(field, "has YAML aliases that contain themselves or grow too large", "")
	}
	return nil
}

// expandedNodes counts the nodes below n with every alias written out, and stops counting just above maxUserDataNodes. seen holds the
// counts that are known; a node is in it with more than the bound while it is being counted, so that one that contains itself is too large.
func expandedNodes(n *yaml.Node, seen map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if count, known := seen[n]; known {
		return count
	}
	seen[n] = maxUserDataNodes + 1
	count := 1
	for _, child := range n.Content {
		count = min(count+expandedNodes(child, seen), maxUserDataNodes+1)
	}
	seen[n] = count
	return count
}
