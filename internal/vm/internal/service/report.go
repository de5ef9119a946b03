package service

import (
	"context"
	"errors"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Report takes what a node saw. Each change is written with its event before the answer, so the node may forget it then; a report
// that comes twice changes nothing the second time.
func (s *Service) Report(ctx context.Context, report nodeapi.Report) (nodeapi.Ack, error) {
	ack := nodeapi.Ack{InstallationID: s.nodes.InstallationID}
	var failed error
	for _, status := range report.Statuses {
		known, err := s.store.Observe(ctx, report.NodeID, report.Epoch, status)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if !known {
			ack.Unknown = append(ack.Unknown, status.VMID)
		}
	}
	if failed != nil {
		return nodeapi.Ack{}, failed // the node repeats it
	}
	return ack, nil
}
