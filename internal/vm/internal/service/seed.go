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

// checkUserData refuses a cloud-config that is not YAML, because the guest would pass over it in silence. Other kinds of user-data
// are the guest's own affair.
func checkUserData(userData, field string, invalid *errs.Error) error {
	first, _, _ := strings.Cut(userData, "\n")
	if strings.TrimSpace(first) != "#cloud-config" {
		return nil
	}
	var parsed any
	if err := yaml.Unmarshal([]byte(userData), &parsed); err != nil {
		return invalid.WithField(field, "is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
	}
	if _, isMap := parsed.(map[string]any); parsed != nil && !isMap {
		return invalid.WithField(field, "must hold a mapping of cloud-config modules", "")
	}
	return nil
}
