package node

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// maxChanges bounds what is told of an edited definition, in lines.
const maxChanges = 12

// keepDefinition notes how the hypervisor tells the definition that it was just given. Nothing else that NovaCron does changes one: what is changed in
// a guest that runs is changed in the running guest alone, and defined anew beside that.
func (n *Node) keepDefinition(ctx context.Context, vm uuid.UUID) error {
	text, err := n.cfg.Driver.Definition(ctx, vm)
	if err != nil {
		return err
	}
	return n.store.KeepDefinition(vm, text)
}

// edited tells how a definition differs from what NovaCron gave last; empty where it does not, where nothing was kept, or where the hypervisor has
// become another version meanwhile and may tell the same in other words.
func (n *Node) edited(ctx context.Context, vm uuid.UUID) (string, error) {
	kept, err := n.store.Definition(vm)
	if err != nil || kept == "" {
		return "", err
	}
	text, err := n.cfg.Driver.Definition(ctx, vm)
	if err != nil {
		if isNotDefined(err) {
			err = nil // gone since it was listed
		}
		return "", err
	}
	keptHead, keptBody, _ := strings.Cut(kept, "\n")
	head, body, _ := strings.Cut(text, "\n")
	if head != keptHead || body == keptBody {
		return "", nil
	}
	return changedLines(keptBody, body), nil
}

// changedLines lists the lines that a text has lost and got. Their order does not count: libvirt tells devices in another one when it has read the
// definition again from its disk.
func changedLines(before, after string) string {
	had, has := lines(before), lines(after)
	var list []string
	only := func(sign string, of, without []string) {
		without = slices.Clone(without)
		for _, line := range of {
			if i := slices.Index(without, line); i >= 0 {
				without = slices.Delete(without, i, i+1)
				continue
			}
			list = append(list, sign+line)
		}
	}
	only("- ", had, has)
	only("+ ", has, had)
	if len(list) > maxChanges {
		list = append(list[:maxChanges], "…")
	}
	return strings.Join(list, "\n")
}

func lines(text string) (list []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
