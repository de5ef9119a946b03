package service

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// cryptHash is the form of a hashed password (crypt(5), "AVAILABLE HASHING METHODS"), without the methods that are no protection any more.
var cryptHash = regexp.MustCompile(`^\$(y|gy|7|6|5|2[abxy])\$[./A-Za-z0-9$=,]{20,250}$`)

// checkCloudInit refuses what the guest would pass over in silence, and puts the rest into the form that the seed has.
func checkCloudInit(c vm.CloudInit, at string, invalid *errs.Error) (vm.CloudInit, error) {
	if err := checkUserData(c.VendorData, at+"vendor_data", invalid); err != nil {
		return c, err
	}
	if c.PasswordHash != "" && !cryptHash.MatchString(c.PasswordHash) {
		return c, invalid.WithField(at+"password_hash", "must be a hash as crypt(5) has it, such as mkpasswd or openssl passwd -6 make, not the password", "")
	}
	if _, err := vendorData(c); err != nil {
		return c, err
	}
	config, err := checkNetworkConfig(c.NetworkConfig, at+"network_config", invalid)
	c.NetworkConfig = config
	return c, err
}

// checkNetworkConfig refuses what is no network-config. It takes the outer key "network", which belongs to files of the guest, away: older
// versions of cloud-init do not know it here.
func checkNetworkConfig(text, field string, invalid *errs.Error) (string, error) {
	if text == "" {
		return "", nil
	}
	root, err := parseYAML(text, field, invalid)
	if err != nil {
		return "", err
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return "", invalid.WithField(field, "must hold a mapping with version and ethernets or config", "")
	}
	if inner := valueOf(root, "network"); inner != nil && len(root.Content) == 2 && inner.Kind == yaml.MappingNode {
		encoded, err := yaml.Marshal(inner)
		if err != nil {
			return "", invalid.WithField(field, "cannot be taken out of its key 'network': "+err.Error(), "")
		}
		root, text = inner, string(encoded)
	}
	version := valueOf(root, "version")
	if version == nil || version.Value != "1" && version.Value != "2" {
		return "", invalid.WithField(field, "must have version 1 or 2", "")
	}
	for _, key := range []string{"ethernets", "bonds", "bridges", "vlans"} {
		devices := valueOf(root, key)
		if devices == nil || version.Value == "1" {
			continue
		}
		if devices.Kind != yaml.MappingNode {
			return "", invalid.WithField(field, fmt.Sprintf("line %d: %s must be a mapping of devices", devices.Line, key), "")
		}
		for i := 1; i < len(devices.Content); i += 2 {
			if d := devices.Content[i]; d.Kind != yaml.MappingNode && d.Kind != yaml.AliasNode {
				return "", invalid.WithField(field, fmt.Sprintf("line %d: %s must be a mapping of settings", d.Line, devices.Content[i-1].Value), "")
			}
		}
	}
	return text, nil
}

// valueOf finds the value of a key in a mapping.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// parseYAML reads a document whose aliases do not grow without bounds; nil is an empty one.
func parseYAML(text, field string, invalid *errs.Error) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, invalid.WithField(field, "is not valid YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	root := document.Content[0]
	if expandedNodes(root, map[*yaml.Node]int{}) > maxYAMLNodes {
		return nil, invalid.WithField(field, "has YAML aliases that contain themselves or grow too large", "")
	}
	return root, nil
}

// maxYAMLNodes bounds what a cloud-config grows to when its aliases are written out: text of the longest length that is taken
// and that uses no alias stays below it.
const maxYAMLNodes = 1 << 17

// userDataKinds are what cloud-init tells user-data and vendor-data by, whatever the case
// (https://docs.cloud-init.io/en/latest/explanation/format/index.html). Of two that fit, the longer one is it.
var userDataKinds = []string{"#cloud-config-archive", "#cloud-config-jsonp", "#cloud-config", "#cloud-boothook", "#!", "#include-once", "#include",
	"#part-handler", "#upstart-job", "## template: jinja", "content-type:", "mime-version:"}

// maxMIMEHeader is how far cloud-init looks for the header that makes a text a MIME message.
const maxMIMEHeader = 4096

// kindOfUserData gives the beginning that cloud-init knows a text by, or "".
func kindOfUserData(text string) string {
	lower := strings.ToLower(strings.TrimLeftFunc(text, unicode.IsSpace))
	for _, kind := range userDataKinds {
		if strings.HasPrefix(lower, kind) {
			return kind
		}
	}
	if strings.Contains(lower[:min(len(lower), maxMIMEHeader)], "mime-version:") {
		return "mime-version:"
	}
	return ""
}

// checkUserData refuses what the guest would pass over in silence: what is of no kind that cloud-init knows, and a cloud-config that is not
// YAML or whose aliases grow without bounds. It looks at the syntax only: cloud-init's own parser takes keys that are told twice, keys that
// are no text and loose base64, and so do its published examples. What is in the other kinds is the guest's own affair.
func checkUserData(userData, field string, invalid *errs.Error) error {
	if strings.TrimSpace(userData) == "" {
		return nil
	}
	switch kindOfUserData(userData) {
	case "#cloud-config":
	case "":
		return invalid.WithField(field, "is of no kind that cloud-init knows, and the guest would pass over it: it must begin with #cloud-config, "+
			"#cloud-config-archive, #cloud-config-jsonp, #cloud-boothook, #!, #include, #include-once, #part-handler, #upstart-job, ## template: jinja, "+
			"or the Content-Type: or MIME-Version: of a MIME message", "")
	default:
		return nil
	}
	root, err := parseYAML(userData, field, invalid)
	if err != nil || root == nil {
		return err
	}
	isEmpty := root.Kind == yaml.ScalarNode && root.Tag == "!!null"
	if root.Kind != yaml.MappingNode && !isEmpty {
		return invalid.WithField(field, "must hold a mapping of cloud-config modules", "")
	}
	return nil
}

// expandedNodes counts the nodes below n with every alias written out, and stops counting just above maxYAMLNodes. seen holds the
// counts that are known; a node is in it with more than the bound while it is being counted, so that one that contains itself is too large.
func expandedNodes(n *yaml.Node, seen map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if count, known := seen[n]; known {
		return count
	}
	seen[n] = maxYAMLNodes + 1
	count := 1
	for _, child := range n.Content {
		count = min(count+expandedNodes(child, seen), maxYAMLNodes+1)
	}
	seen[n] = count
	return count
}
