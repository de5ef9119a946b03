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
		// What is not known is left as it is: a database that was restored from a backup knows less than there is. The audit of drift sees to it.
		if _, err := s.store.Observe(ctx, report.NodeID, report.Epoch, status); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return nodeapi.Ack{}, failed // the node repeats it
	}
	return ack, nil
}
