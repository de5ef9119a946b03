package imagestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/lima-vm/go-qcow2reader/image/qcow2"

	"github.com/novacron/novacron/internal/vm"
)

// Screened is what the header of an upload tells.
type Screened struct {
	Kind             vm.ImageKind
	Format           string // qcow2, raw, vmdk, vhdx, iso, kernel or initrd
	VirtualSizeBytes int64
}

// maxVirtualSize bounds the disk that an image may describe: 16 TiB.
const maxVirtualSize = 16 << 40

// extDataFile is the header extension that names an external data file (qcow2 specification, "header extensions").
const extDataFile = 0x44415441

// Screen decides from the first bytes of a file what it is, and refuses what would make a tool open other files: the format is
// never taken from a name or from what the uploader says. No tool has touched the file before. Kernels and initrds are taken for such only
// where the uploader wants them, because a disk may begin like one; everything else of a kind is a contradiction.
func Screen(f io.ReaderAt, size int64, kind vm.ImageKind) (Screened, error) {
	screened, err := screen(f, size, kind)
	switch {
	case err != nil:
		return Screened{}, err
	case kind != "" && kind != screened.Kind:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the upload is said to be of kind %s, but its header says %s", kind, screened.Kind)
	}
	return screened, nil
}

func screen(f io.ReaderAt, size int64, kind vm.ImageKind) (Screened, error) {
	if size == 0 {
		return Screened{}, vm.ErrImageInvalid.WithMessage("the upload is empty")
	}
	head := make([]byte, 64<<10)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return Screened{}, fmt.Errorf("read header of upload: %w", err)
	}
	head = head[:n]
	if kind == vm.ImageKernel || kind == vm.ImageInitrd {
		return screenBoot(head, size, kind)
	}
	switch {
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		return screenQcow2(head)
	case bytes.HasPrefix(head, []byte("KDMV")):
		return screenVMDK(f, head, size)
	case bytes.HasPrefix(head, []byte("COWD")):
		return Screened{}, unsupported("VMDK 3")
	case startsDescriptor(head):
		return Screened{}, vm.ErrImageRefused.WithMessage("the upload is the descriptor of a VMDK, whose extents are files outside itself").
			WithAction("Convert it with 'qemu-img convert -O qcow2' where its extents are.")
	case bytes.HasPrefix(head, []byte("vhdxfile")):
		return screenVHDX(f, size)
	case bytes.HasPrefix(head, []byte("conectix")):
		return Screened{}, unsupported("VHD")
	case bytes.HasPrefix(head, []byte("<<< ")) || len(head) > 68 && binary.LittleEndian.Uint32(head[64:]) == 0xbeda107f:
		return Screened{}, unsupported("VDI")
	case bytes.HasPrefix(head, []byte("QED\x00")):
		return Screened{}, unsupported("QED")
	case bytes.HasPrefix(head, []byte("WithoutFreeSpace")), bytes.HasPrefix(head, []byte("WithouFreSpacExt")):
		return Screened{}, unsupported("Parallels")
	case bytes.HasPrefix(head, []byte("LUKS\xba\xbe")):
		return Screened{}, unsupported("LUKS")
	}
	if len(head) > isoVolume+6 && string(head[isoVolume+1:isoVolume+6]) == "CD001" {
		return Screened{Kind: vm.ImageISO, Format: "iso", VirtualSizeBytes: (size + 511) &^ 511}, nil
	}
	if size < 512 {
		return Screened{}, vm.ErrImageInvalid.WithMessage("the upload is too small to be a disk image: %d bytes", size)
	}
	if size > maxVirtualSize {
		return Screened{}, tooLarge(uint64(size))
	}
	return Screened{Kind: vm.ImageDisk, Format: "raw", VirtualSizeBytes: (size + 511) &^ 511}, nil
}

func unsupported(format string) error {
	return vm.ErrImageInvalid.WithMessage("images in the format %s are not supported", format).
		WithAction("Convert it with 'qemu-img convert -O qcow2' first.")
}

func tooLarge(size uint64) error {
	return vm.ErrImageInvalid.WithMessage("the image describes a disk of %d bytes; the most is %d", size, int64(maxVirtualSize))
}

func screenQcow2(head []byte) (Screened, error) {
	var v2 qcow2.HeaderFieldsV2
	var v3 qcow2.HeaderFieldsV3
	r := bytes.NewReader(head)
	if err := binary.Read(r, binary.BigEndian, &v2); err != nil {
		return Screened{}, vm.ErrImageInvalid.WithMessage("the qcow2 header is cut off")
	}
	headerLength := 72
	switch v2.Version {
	case 2:
	case 3:
		if err := binary.Read(r, binary.BigEndian, &v3); err != nil {
			return Screened{}, vm.ErrImageInvalid.WithMessage("the qcow2 header is cut off")
		}
		headerLength = int(v3.HeaderLength)
	default:
		return Screened{}, vm.ErrImageInvalid.WithMessage("qcow2 version %d is unknown", v2.Version)
	}
	switch {
	case v2.BackingFileOffset != 0 || v2.BackingFileSize != 0:
		return Screened{}, vm.ErrImageRefused.WithMessage("the image has a backing file")
	case v3.IncompatibleFeatures&(1<<2) != 0:
		return Screened{}, vm.ErrImageRefused.WithMessage("the image keeps its data in an external file")
	case v3.IncompatibleFeatures&^(1<<0|1<<3|1<<4) != 0: // dirty, compression type, extended L2 are harmless
		return Screened{}, vm.ErrImageInvalid.WithMessage("the image uses qcow2 features that are not accepted: %#x", uint64(v3.IncompatibleFeatures))
	case v2.CryptMethod != 0:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the image is encrypted")
	case v2.ClusterBits < 9 || v2.ClusterBits > 21:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the qcow2 header gives an impossible cluster size")
	case v2.Size == 0:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the image describes an empty disk")
	case v2.Size > maxVirtualSize:
		return Screened{}, tooLarge(v2.Size)
	}
	if err := screenExtensions(head, headerLength, 1<<v2.ClusterBits); err != nil {
		return Screened{}, err
	}
	return Screened{Kind: vm.ImageDisk, Format: "qcow2", VirtualSizeBytes: int64((v2.Size + 511) &^ 511)}, nil
}

// screenExtensions walks the header extensions, which end with type 0 or at the end of the first cluster.
func screenExtensions(head []byte, at, clusterSize int) error {
	end := min(len(head), clusterSize)
	for at >= 72 && at+8 <= end {
		kind, length := binary.BigEndian.Uint32(head[at:]), int(binary.BigEndian.Uint32(head[at+4:]))
		if kind == 0 {
			return nil
		}
		if kind == extDataFile {
			return vm.ErrImageRefused.WithMessage("the image names an external data file")
		}
		if length < 0 || length > end {
			return vm.ErrImageInvalid.WithMessage("a qcow2 header extension is longer than the header")
		}
		at += 8 + (length+7)&^7
	}
	return nil
}
