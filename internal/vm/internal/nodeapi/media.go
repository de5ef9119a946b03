package nodeapi

// The kinds of images in the cache of a node that are no disks.
const (
	MediaISO  = "iso"
	MediaBoot = "boot" // a kernel or an initrd
)

// BootCDROM stands for the drive in Hardware.Boot.
const BootCDROM = "cdrom"

// Media is what a virtual machine reads beside its disks. Images are named by their SHA-256.
type Media struct {
	Drive  bool   `json:"drive,omitempty"`  // it has a drive for discs
	Disc   string `json:"disc,omitempty"`   // in the drive; empty: none
	Kernel string `json:"kernel,omitempty"` // empty: it boots by itself
	Initrd string `json:"initrd,omitempty"`
}

// Only gives the part of it that a kind of image is for: iso, kernel or initrd.
func (m Media) Only(kind string) Media {
	switch kind {
	case "iso":
		return Media{Disc: m.Disc}
	case "kernel":
		return Media{Kernel: m.Kernel}
	default:
		return Media{Initrd: m.Initrd}
	}
}
