package imagestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/novacron/novacron/internal/vm"
)

// isoVolume is where the first volume descriptor of an ISO 9660 image begins: sector 16 (ECMA-119, 6.2.1). Its standard identifier follows
// the first byte (8.1.2).
const isoVolume = 16 * 2048

// startsDescriptor recognises the text that names the extents of a VMDK as QEMU does: after comments, empty lines and spaces, a line
// "version=1", "version=2" or "version=3".
func startsDescriptor(head []byte) bool {
	text := head[:min(len(head), 4096)]
	for len(text) > 0 {
		switch line, rest, _ := bytes.Cut(text, []byte("\n")); {
		case bytes.HasPrefix(line, []byte("# Disk DescriptorFile")):
			return true
		case bytes.HasPrefix(line, []byte("#")), len(bytes.TrimLeft(line, " \r\x00")) == 0 && !bytes.Contains(line, []byte{0}):
			text = rest
		default:
			return bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("version="))
		}
	}
	return false
}

// vmdkHeader is the header of a sparse extent. Sizes and places are in sectors of 512 bytes.
// Source: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extent Header".
type vmdkHeader struct {
	Magic            [4]byte
	Version, Flags   uint32
	Capacity         uint64
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	GTEsPerGT        uint32
	RGDOffset        uint64
	GDOffset         uint64
	Overhead         uint64
}

const (
	sector = 512
	// vmdkMaxDescriptor is far more than the descriptor of one extent has; QEMU reads 20 sectors for the parent, and the rest for nothing.
	vmdkMaxDescriptor = 1 << 20
	// vmdkAtEnd stands for a grain directory whose place the footer tells.
	vmdkAtEnd = ^uint64(0)
)

var (
	vmdkType   = regexp.MustCompile(`(?mi)^[ \t]*createType[ \t]*=[ \t]*"([^"\r\n]*)"`)
	vmdkExtent = regexp.MustCompile(`(?mi)^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(\S+)(?:[ \t]+"([^"\r\n]*)")?`)
	vmdkParent = regexp.MustCompile(`(?i)parentCID[ \t]*=[ \t]*([0-9a-z]*)`)
)

// screenVMDK accepts a VMDK whose only extent is the file itself. The descriptor within it is looked at in both places where a tool may
// look for it, and a footer, which may stand for the header, must agree with that.
func screenVMDK(f io.ReaderAt, head []byte, size int64) (Screened, error) {
	var h vmdkHeader
	if err := binary.Read(bytes.NewReader(head), binary.LittleEndian, &h); err != nil || len(head) < sector {
		return Screened{}, vm.ErrImageInvalid.WithMessage("the VMDK header is cut off")
	}
	end := uint64(size) / sector
	switch {
	case h.Version < 1 || h.Version > 3:
		return Screened{}, vm.ErrImageInvalid.WithMessage("VMDK version %d is unknown", h.Version)
	case h.Capacity == 0: // then tools open whatever the descriptor names
		return Screened{}, vm.ErrImageRefused.WithMessage("the VMDK has no data of its own")
	case h.Capacity > maxVirtualSize/sector:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the image describes a disk of %d sectors; the most is %d", h.Capacity, int64(maxVirtualSize/sector))
	case h.DescriptorOffset == 0 || h.DescriptorSize == 0:
		return Screened{}, vm.ErrImageRefused.WithMessage("the VMDK is one extent of several; its descriptor is another file")
	case h.DescriptorOffset > end || h.DescriptorSize > vmdkMaxDescriptor/sector:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the VMDK header gives an impossible place for the descriptor")
	}
	if h.GDOffset == vmdkAtEnd {
		var foot vmdkHeader // the last sector but one (op. cit., "Streaming Optimized")
		if err := binary.Read(io.NewSectionReader(f, size-2*sector, sector), binary.LittleEndian, &foot); err != nil || foot.Magic != h.Magic {
			return Screened{}, vm.ErrImageInvalid.WithMessage("the VMDK has lost its footer")
		}
		if foot.Capacity != h.Capacity || foot.GrainSize != h.GrainSize {
			return Screened{}, vm.ErrImageInvalid.WithMessage("header and footer of the VMDK contradict each other")
		}
	}
	text, err := readUpTo(f, int64(h.DescriptorOffset)*sector, int64(h.DescriptorSize)*sector)
	if err != nil {
		return Screened{}, err
	}
	fixed, err := readUpTo(f, sector, 20*sector)
	if err != nil {
		return Screened{}, err
	}
	if err := screenDescriptor(string(bytes.TrimRight(text, "\x00")), string(fixed)); err != nil {
		return Screened{}, err
	}
	return Screened{Kind: vm.ImageDisk, Format: "vmdk", VirtualSizeBytes: int64(h.Capacity) * sector}, nil
}

func readUpTo(f io.ReaderAt, offset, length int64) ([]byte, error) {
	b := make([]byte, length)
	n, err := f.ReadAt(b, offset)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read header of upload: %w", err)
	}
	return b[:n], nil
}

func screenDescriptor(text, fixed string) error {
	for _, place := range []string{text, fixed} {
		if strings.Contains(strings.ToLower(place), "parentfilenamehint") {
			return vm.ErrImageRefused.WithMessage("the VMDK names a parent")
		}
		for _, parent := range vmdkParent.FindAllStringSubmatch(place, -1) {
			if !strings.EqualFold(parent[1], "ffffffff") {
				return vm.ErrImageRefused.WithMessage("the VMDK has a parent")
			}
		}
	}
	types := vmdkType.FindAllStringSubmatch(text, -1)
	if len(types) != 1 || types[0][1] != "monolithicSparse" && types[0][1] != "streamOptimized" {
		return vm.ErrImageRefused.WithMessage("the VMDK is none whose only extent is the file itself (monolithicSparse, streamOptimized)")
	}
	extents := vmdkExtent.FindAllStringSubmatch(text, -1)
	if len(extents) != 1 || !strings.EqualFold(extents[0][1], "SPARSE") || strings.ContainsAny(extents[0][2], `/\`) {
		return vm.ErrImageRefused.WithMessage("the VMDK has extents outside itself")
	}
	return nil
}

// Places and names of VHDX. Source: Microsoft, [MS-VHDX] 2.1 (layout), 2.2.3 (region table), 2.6 (metadata).
const (
	vhdxRegionTable = 192 << 10
	vhdxHasParent   = 2
	vhdxMaxEntries  = 2047
)

var (
	vhdxMetadata      = guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
	vhdxParameters    = guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
	vhdxDiskSize      = guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
	vhdxParentLocator = guid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
)

// guid gives the bytes of a GUID as Microsoft's formats store them: the first three groups are little-endian.
func guid(text string) [16]byte {
	var a uint32
	var b, c, d uint16
	var e uint64
	if _, err := fmt.Sscanf(text, "%08X-%04X-%04X-%04X-%012X", &a, &b, &c, &d, &e); err != nil {
		panic("imagestore: bad GUID " + text)
	}
	var g [16]byte
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	binary.BigEndian.PutUint64(g[8:], uint64(d)<<48|e)
	return g
}

func damagedVHDX(what string) error {
	return vm.ErrImageInvalid.WithMessage("the VHDX is damaged: %s", what)
}

// screenVHDX finds the metadata and refuses a disk that is the difference to another.
func screenVHDX(f io.ReaderAt, size int64) (Screened, error) {
	regions := make([]byte, 64<<10)
	if n, err := f.ReadAt(regions, vhdxRegionTable); n < len(regions) || !bytes.HasPrefix(regions, []byte("regi")) {
		_ = err // too short for a table, whatever the reason
		return Screened{}, damagedVHDX("it has no region table")
	}
	at := int64(0)
	count := binary.LittleEndian.Uint32(regions[8:])
	if count > vhdxMaxEntries {
		return Screened{}, damagedVHDX("its region table has too many entries")
	}
	for i := range int(count) {
		if entry := regions[16+32*i:]; [16]byte(entry[:16]) == vhdxMetadata {
			if at != 0 {
				return Screened{}, damagedVHDX("it has two metadata regions")
			}
			at = int64(binary.LittleEndian.Uint64(entry[16:]))
		}
	}
	table := make([]byte, 64<<10)
	if at <= 0 || at > size-int64(len(table)) {
		return Screened{}, damagedVHDX("its metadata is not where it should be")
	}
	if _, err := f.ReadAt(table, at); err != nil || !bytes.HasPrefix(table, []byte("metadata")) {
		return Screened{}, damagedVHDX("it has no metadata")
	}
	return screenVHDXMetadata(f, table, at)
}

func screenVHDXMetadata(f io.ReaderAt, table []byte, at int64) (Screened, error) {
	count := binary.LittleEndian.Uint16(table[10:])
	if count > vhdxMaxEntries-1 {
		return Screened{}, damagedVHDX("its metadata has too many entries")
	}
	var diskSize uint64
	parameters, sizes := 0, 0
	for i := range int(count) {
		entry := table[32+32*i:]
		item := make([]byte, 8)
		read := func() error {
			if _, err := f.ReadAt(item, at+int64(binary.LittleEndian.Uint32(entry[16:]))); err != nil {
				return damagedVHDX("its metadata is cut off")
			}
			return nil
		}
		switch [16]byte(entry[:16]) {
		case vhdxParentLocator:
			return Screened{}, vm.ErrImageRefused.WithMessage("the VHDX names a parent")
		case vhdxParameters:
			parameters++
			if err := read(); err != nil {
				return Screened{}, err
			}
			if binary.LittleEndian.Uint32(item[4:])&vhdxHasParent != 0 {
				return Screened{}, vm.ErrImageRefused.WithMessage("the VHDX has a parent")
			}
		case vhdxDiskSize:
			sizes++
			if err := read(); err != nil {
				return Screened{}, err
			}
			diskSize = binary.LittleEndian.Uint64(item)
		}
	}
	switch {
	case parameters != 1 || sizes != 1:
		return Screened{}, damagedVHDX("its metadata lacks an item, or has one twice")
	case diskSize == 0:
		return Screened{}, vm.ErrImageInvalid.WithMessage("the image describes an empty disk")
	case diskSize > maxVirtualSize:
		return Screened{}, tooLarge(diskSize)
	}
	return Screened{Kind: vm.ImageDisk, Format: "vhdx", VirtualSizeBytes: int64((diskSize + 511) &^ 511)}, nil
}

// maxBoot bounds kernels and initrds, which go into the guest's memory before it starts.
const maxBoot = 1 << 30

// screenBoot looks for what makes a file a kernel (the x86 boot protocol's signature; Linux, Documentation/arch/x86/boot.rst) or an initrd
// (a cpio archive, plain or packed; Documentation/driver-api/early-userspace/buffer-format.rst and the magic numbers of the packers).
func screenBoot(head []byte, size int64, kind vm.ImageKind) (Screened, error) {
	if size > maxBoot {
		return Screened{}, vm.ErrImageTooLarge.WithMessage("a %s has at most %d bytes", kind, maxBoot)
	}
	good := len(head) > 0x206 && binary.LittleEndian.Uint16(head[0x1fe:]) == 0xaa55 && string(head[0x202:0x206]) == "HdrS"
	if kind == vm.ImageInitrd {
		good = false
		for _, magic := range []string{"070701", "070702", "\x1f\x8b", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "\x02\x21\x4c\x18", "BZh", "\x5d\x00\x00", "\x89LZO"} {
			good = good || bytes.HasPrefix(head, []byte(magic))
		}
	}
	if !good {
		return Screened{}, vm.ErrImageInvalid.WithMessage("the upload is no %s", kind)
	}
	return Screened{Kind: kind, Format: string(kind), VirtualSizeBytes: size}, nil
}
