package firewall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Command runs a program of the host with this input and gives what it printed.
type Command func(ctx context.Context, input string, args ...string) (string, error)

// Firewall keeps one node's policy in force. It is safe for concurrent use.
type Firewall struct {
	run  Command
	path string

	mu   sync.Mutex // guards what follows, and the order of calls of nft
	kept state
}

// state is what is kept on the disk, so that a node that starts has its guests protected before a controller answers, and knows what of
// it is in force already.
type state struct {
	Policy nodeapi.Policy `json:"policy"`
	// Parts are the digests of the parts of the ruleset that are in force, by name; none says that it is not known.
	Parts map[string]string `json:"parts"`
	// Listing is the digest of what nft listed after the last change.
	Listing string `json:"listing"`
}

// Open reads what was kept at the path. It changes nothing; Repair does.
func Open(path string, run Command) (*Firewall, error) {
	f := &Firewall{run: run, path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the kept policy: %w", err)
	}
	if err := json.Unmarshal(raw, &f.kept); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return f, nil
}

// Policy gives the policy that is kept.
func (f *Firewall) Policy() nodeapi.Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept.Policy
}

// Apply puts a policy in force and tells whether that changed anything. One that is older than the one in force is refused.
func (f *Firewall) Apply(ctx context.Context, policy nodeapi.Policy) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if policy.Version < f.kept.Policy.Version {
		return false, nodeapi.ErrStaleGeneration.WithMessage("the policy %d is older than %d, which is in force", policy.Version, f.kept.Policy.Version)
	}
	routers, err := f.routers(ctx, policy)
	if err != nil {
		return false, err
	}
	wanted, err := parts(policy, routers)
	if err != nil {
		return false, err
	}
	same := maps.Equal(digests(wanted), f.kept.Parts)
	if same && policy.Version == f.kept.Policy.Version {
		return false, nil
	}
	if same {
		kept := f.kept
		kept.Policy = policy
		return false, f.keep(kept)
	}
	return true, f.change(ctx, policy, wanted)
}

// Repair puts the kept policy in force again where something outside has changed the tables, and tells whether that was so.
func (f *Firewall) Repair(ctx context.Context) (repaired bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	routers, err := f.routers(ctx, f.kept.Policy)
	if err != nil {
		return false, err
	}
	wanted, err := parts(f.kept.Policy, routers)
	if err != nil {
		return false, err
	}
	listing, err := f.list(ctx)
	if err != nil {
		return false, err
	}
	if listing != f.kept.Listing || f.kept.Parts == nil {
		if len(wanted) == 0 && listing == "" {
			return false, nil
		}
		f.kept.Parts = nil // nothing is known of what is there
		return true, f.change(ctx, f.kept.Policy, wanted)
	}
	if !maps.Equal(digests(wanted), f.kept.Parts) { // another version of NovaCron, a change that was cut short, or a bridge that has its address now
		return false, f.change(ctx, f.kept.Policy, wanted) // nobody has touched the tables
	}
	var groups script
	for _, p := range wanted {
		if strings.HasPrefix(p.name, "group ") {
			groups = append(groups, p.text...)
		}
	}
	if len(groups) == 0 {
		return false, nil
	}
	return false, f.nft(ctx, groups)
}

// change brings the tables from what is in force to what is wanted: by what differs, or all anew where that does not work.
func (f *Firewall) change(ctx context.Context, policy nodeapi.Policy, wanted []part) error {
	before := f.kept.Parts
	// From here on it is not known what is in force, until it is.
	if err := f.keep(state{Policy: policy}); err != nil {
		return err
	}
	var err error
	switch {
	case len(wanted) == 0:
		err = f.nft(ctx, empty())
	case before != nil:
		if err = f.nft(ctx, difference(before, wanted)); err == nil {
			break
		}
		fallthrough
	default:
		err = f.nft(ctx, whole(wanted))
	}
	if err != nil {
		return err
	}
	listing, err := f.list(ctx)
	if err != nil {
		return err
	}
	return f.keep(state{Policy: policy, Parts: digests(wanted), Listing: listing})
}

func (f *Firewall) keep(s state) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the policy: %w", err)
	}
	if err := atomicfile.Write(f.path, raw, 0o600); err != nil {
		return fmt.Errorf("keep the policy: %w", err)
	}
	f.kept = s
	return nil
}

func (f *Firewall) nft(ctx context.Context, commands script) error {
	if _, err := f.run(ctx, strings.Join(commands, "\n")+"\n", "nft", "-f", "-"); err != nil {
		return nodeapi.ErrFirewall.Wrap(err)
	}
	return nil
}

// list gives a digest of both tables without what changes by itself; empty where neither is there.
func (f *Firewall) list(ctx context.Context) (string, error) {
	tables, err := f.run(ctx, "", "nft", "list", "tables")
	if err != nil {
		return "", nodeapi.ErrFirewall.Wrap(err)
	}
	all := ""
	for _, family := range []string{"bridge", "inet"} {
		if !slices.Contains(strings.Split(tables, "\n"), "table "+family+" novacron") {
			continue
		}
		// Without the elements of sets, most of which come and go with the guests' connections.
		text, err := f.run(ctx, "", "nft", "-s", "-t", "list", "table", family, "novacron")
		if err != nil {
			return "", nodeapi.ErrFirewall.Wrap(err)
		}
		all += text
		for _, set := range fixed[family] {
			elements, err := f.run(ctx, "", append([]string{"nft", "-s", "list"}, strings.Fields(set)...)...)
			if err != nil {
				elements = "missing"
			}
			all += sorted(elements)
		}
	}
	if all == "" {
		return "", nil
	}
	return digest(all), nil
}

// fixed are the sets whose elements are the policy's, but for those of groups, which Repair writes without looking.
var fixed = map[string][]string{
	"bridge": {"map bridge novacron outgoing", "map bridge novacron incoming", "set bridge novacron outside"},
	"inet":   {"set inet novacron bridges", "map inet novacron to_host", "map inet novacron from_guest", "map inet novacron to_guest"},
}

// sorted makes a listing independent of the order in which the kernel keeps elements, which is not always the same.
func sorted(listing string) string {
	elements := strings.FieldsFunc(strings.ReplaceAll(listing, "elements =", ","), func(r rune) bool { return strings.ContainsRune(",{}\n", r) })
	for i := range elements {
		elements[i] = strings.TrimSpace(elements[i])
	}
	slices.Sort(elements)
	return strings.Join(elements, "\n")
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// routers gives the addresses of the link that the bridges of networks with IPv6 have, by bridge: guests know their router by it. A bridge has one from
// when the first guest is on it.
func (f *Firewall) routers(ctx context.Context, policy nodeapi.Policy) (map[string]netip.Addr, error) {
	if !slices.ContainsFunc(policy.Networks, func(n nodeapi.PolicyNetwork) bool { return n.CIDR6 != "" }) {
		return nil, nil
	}
	out, err := f.run(ctx, "", "ip", "-6", "-o", "addr", "show", "scope", "link")
	if err != nil {
		return nil, nodeapi.ErrFirewall.Wrap(err)
	}
	list := map[string]netip.Addr{}
	for line := range strings.Lines(out) {
		// 7: nova0199aaaa    inet6 fe80::5054:ff:fe12:3456/64 scope link ...
		if field := strings.Fields(line); len(field) > 3 && field[2] == "inet6" {
			if prefix, err := netip.ParsePrefix(field[3]); err == nil && prefix.Addr().IsLinkLocalUnicast() {
				list[field[1]] = prefix.Addr()
			}
		}
	}
	return list, nil
}

// part is a piece of the ruleset that is changed as one.
type part struct {
	name string // "base", "hosts", "group ID", "device HEX"
	text script
}

func parts(policy nodeapi.Policy, routers map[string]netip.Addr) ([]part, error) {
	r, err := parse(policy, routers)
	if err != nil || len(r.networks) == 0 {
		return nil, err
	}
	list := []part{{"base", base()}}
	for _, g := range r.groups {
		list = append(list, part{"group " + g.id, members(g)})
	}
	list = append(list, part{"hosts", hosts(r)})
	for _, p := range r.ports {
		list = append(list, part{"device " + p.hex, device(p)})
	}
	return list, nil
}

func digests(list []part) map[string]string {
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[p.name] = digest(strings.Join(p.text, "\n"))
	}
	return m
}

func empty() script {
	var s script
	for _, family := range []string{"bridge", "inet"} {
		s.add("add table %s novacron", family)
		s.add("delete table %s novacron", family)
	}
	return s
}

func whole(wanted []part) script {
	s := empty()
	for _, p := range wanted {
		s = append(s, p.text...)
	}
	return s
}

// difference is what to do where the parts before are in force. The host's part is written anew with its table, which holds no state.
func difference(before map[string]string, wanted []part) script {
	now := digests(wanted)
	var s script
	for _, p := range wanted {
		if before[p.name] == now[p.name] {
			continue
		}
		if p.name == "hosts" {
			s.add("add table inet novacron")
			s.add("delete table inet novacron")
			s.add("add table inet novacron")
		}
		s = append(s, p.text...)
	}
	var gone []string
	for name := range before {
		if _, ok := now[name]; !ok {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone) // devices before the groups that they refer to
	for _, name := range gone {
		if digits, ok := strings.CutPrefix(name, "device "); ok {
			s = append(s, dropDevice(digits)...)
		}
	}
	for _, name := range gone {
		if id, ok := strings.CutPrefix(name, "group "); ok {
			s = append(s, dropMembers(id)...)
		}
	}
	return s
}
