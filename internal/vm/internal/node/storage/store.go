// Package storage keeps what a node has on its disks: cached images, the disks of virtual machines, their seeds and console logs.
//
//	images/<sha256>.qcow2            cached image, never written again; <sha256>.dropped beside it when it may go
//	images/<sha256>.iso, .boot       the same of a disc, of a kernel or initrd
//	disks/<vm id>/media-<sha256>.*   second name of a cached disc, copy of a cached kernel or initrd
//	disks/<vm id>/<disk>.qcow2       copy-on-write overlay over an image, or an empty disk
//	disks/<vm id>/seed.iso           NoCloud seed
//	disks/<vm id>/snapshots/<id>     what is known of a snapshot that the disks hold
//	volumes/<volume id>.qcow2, .raw  volume, attached or not
//	disks/<vm id>/console.log        what the guest said on its serial console
//	disks/<vm id>/definition.xml     how the hypervisor told its definition when NovaCron had given it
//	quarantine/<id>/                 what was set aside of a machine (its folder as files, its definition.xml) or a volume; entry.json says when
//
// Invariants: a file under its final name is complete and on the disk; a disk is never made over one that exists; an image stays as
// long as a disk stands on it. Folders are 0711, because QEMU runs as another user. Only the node role uses it; calls for one
// virtual machine are serialised by its caller.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/node/streamdial"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Store is the storage of one node. Make it with Open.
type Store struct {
	images, disks, volumes, quarantine string
	dialer                             streamdial.Dialer
	log                                *slog.Logger
	tools                              chan struct{} // a slot for each qemu-img that may run at once
	downloads                          chan struct{} // a slot for each image that may be fetched at once

	imagesLock sync.RWMutex // held to read by what makes a disk stand on an image, to write by what removes images

	pullsLock sync.Mutex // guards pulls
	pulls     map[string]*pull

	cacheBytes int64 // what the cache may take; 0: all there is
	evicted    func(bytes int64)

	life    context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup // downloads
}

const (
	parallelTools     = 4
	parallelDownloads = 2
	folderMode        = 0o711
)

// The endings of the files of cached images.
const (
	diskEnding = ".qcow2"
	isoEnding  = ".iso"
	bootEnding = ".boot"
)

// Cache bounds what images take that no disk stands on and no virtual machine has. The zero value bounds nothing.
type Cache struct {
	Bytes   int64             // 0: no bound
	Evicted func(bytes int64) // told of each image that made room; may be nil
}

// Open makes the folders below dir where they are missing, and removes what a crash left half made.
func Open(dir string, dialer streamdial.Dialer, log *slog.Logger, cache Cache) (*Store, error) {
	s := &Store{cacheBytes: cache.Bytes, evicted: cache.Evicted,
		images: filepath.Join(dir, "images"), disks: filepath.Join(dir, "disks"),
		volumes: filepath.Join(dir, "volumes"), quarantine: filepath.Join(dir, quarantineFolder), dialer: dialer, log: log,
		tools: make(chan struct{}, parallelTools), downloads: make(chan struct{}, parallelDownloads), pulls: map[string]*pull{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, d := range []string{dir, s.images, s.disks, s.volumes, s.quarantine} {
		if err := makeFolder(d); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{s.images, s.volumes} {
		if err := atomicfile.RemoveLeftovers(d); err != nil {
			return nil, err
		}
	}
	vms, err := s.VMs()
	if err != nil {
		return nil, err
	}
	for _, vm := range vms {
		for _, d := range []string{s.folder(vm), filepath.Join(s.folder(vm), snapshotsFolder)} {
			if err := atomicfile.RemoveLeftovers(d); err != nil {
				return nil, err
			}
		}
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	s.running.Go(s.keepBound) // these end with Close
	s.running.Go(s.cutConsoles)
	return s, nil
}

// Close ends the downloads at work.
func (s *Store) Close() {
	s.end()
	s.running.Wait()
}

func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := os.Chmod(dir, folderMode); err != nil { // the umask may have taken something away
		return fmt.Errorf("make folder traversable: %w", err)
	}
	return nil
}

func (s *Store) folder(vm uuid.UUID) string { return filepath.Join(s.disks, vm.String()) }

// SeedPath is where the seed of a virtual machine is.
func (s *Store) SeedPath(vm uuid.UUID) string { return filepath.Join(s.folder(vm), "seed.iso") }

// ConsolePath is where the console log of a virtual machine is.
func (s *Store) ConsolePath(vm uuid.UUID) string { return filepath.Join(s.folder(vm), "console.log") }

// HasSeed tells whether the seed is there.
func (s *Store) HasSeed(vm uuid.UUID) bool {
	_, err := os.Stat(s.SeedPath(vm))
	return err == nil
}

// VMs lists the virtual machines that have a folder.
func (s *Store) VMs() ([]uuid.UUID, error) {
	entries, err := os.ReadDir(s.disks)
	if err != nil {
		return nil, failed("list the disks", err)
	}
	var vms []uuid.UUID
	for _, e := range entries {
		if id, err := uuid.Parse(e.Name()); err == nil && e.IsDir() {
			vms = append(vms, id)
		}
	}
	return vms, nil
}

// Has tells whether a virtual machine has a folder.
func (s *Store) Has(vm uuid.UUID) bool {
	_, err := os.Stat(s.folder(vm))
	return err == nil
}

// Remove removes all that a virtual machine has, and images that only waited for that. It is idempotent.
func (s *Store) Remove(vm uuid.UUID) error {
	if err := os.RemoveAll(s.folder(vm)); err != nil {
		return failed("remove the disks", err)
	}
	if err := atomicfile.SyncDir(s.disks); err != nil {
		return failed("remove the disks", err)
	}
	return s.sweep()
}

// Usage tells the size of the file system and what of it is free to us.
func (s *Store) Usage() (total, free int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.disks, &st); err != nil {
		return 0, 0, fmt.Errorf("ask for the storage's size: %w", err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil //nolint:gosec // file systems are smaller than 8 EiB
}

// failed turns an error of the file system into one of nodeapi.
func failed(what string, err error) error {
	cause := fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nodeapi.ErrStorageFull.Wrap(cause)
	}
	return nodeapi.ErrStorage.WithMessage("the node could not %s", what).Wrap(cause)
}

var (
	diskNames  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	imageNames = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// diskPath is where a disk is; names come over the bus and must not lead out of the folder.
func (s *Store) diskPath(vm uuid.UUID, name string) (string, error) {
	if !diskNames.MatchString(name) {
		return "", nodeapi.ErrInvalidCommand.WithMessage("%q is not a disk name", name)
	}
	return filepath.Join(s.folder(vm), name+".qcow2"), nil
}

func (s *Store) imagePath(sha256 string) (string, error) { return s.cachePath(sha256, "") }

// cachePath is where an image of a kind is cached.
func (s *Store) cachePath(sha256, kind string) (string, error) {
	ending, ok := map[string]string{"": diskEnding, nodeapi.MediaISO: isoEnding, nodeapi.MediaBoot: bootEnding}[kind]
	if !imageNames.MatchString(sha256) || !ok {
		return "", nodeapi.ErrInvalidCommand.WithMessage("%q of kind %q is no image", sha256, kind)
	}
	return filepath.Join(s.images, sha256+ending), nil
}
