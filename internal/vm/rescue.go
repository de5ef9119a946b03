package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Rescue tells what a virtual machine boots from while its own system is mended.
type Rescue struct {
	ImageID uuid.UUID `json:"image_id" doc:"The image whose system it boots, on a disk that goes when the rescue ends."`
	Since   time.Time `json:"since"`
}

// The errors of rescuing.
var (
	ErrRescued    = errs.New(errs.Conflict, "vm.rescued", "the virtual machine is in rescue").WithAction("End the rescue first.")
	ErrNotRescued = errs.New(errs.Conflict, "vm.not_rescued", "the virtual machine is not in rescue")
)

func rescueErrors() []*errs.Error { return []*errs.Error{ErrRescued, ErrNotRescued} }
