package storage

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The NoCloud data source finds its volume by this label and reads these files.
// Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
const (
	seedLabel         = "CIDATA"
	metaDataFile      = "meta-data"
	userDataFile      = "user-data"
	vendorDataFile    = "vendor-data"
	networkConfigFile = "network-config"
)

// EnsureSeed writes the seed. One that is there is replaced, which a running guest sees at its next start.
func (s *Store) EnsureSeed(vm uuid.UUID, spec nodeapi.SeedSpec) (err error) {
	dir := s.folder(vm)
	if err := makeFolder(dir); err != nil {
		return failed("make the seed's folder", err)
	}
	temp, err := os.CreateTemp(dir, ".seed.*.tmp")
	if err != nil {
		return failed("make the seed", err)
	}
	defer temp.Close()           // synced before
	defer os.Remove(temp.Name()) // gone under this name when all went well
	files := map[string]string{metaDataFile: spec.MetaData, userDataFile: spec.UserData, vendorDataFile: spec.VendorData, networkConfigFile: spec.NetworkConfig}
	maps.DeleteFunc(files, func(name, text string) bool { return text == "" && name != userDataFile }) // the first two must be there, the others hold something
	if err := writeISO(temp, files); err != nil {
		return failed("write the seed", err)
	}
	if err := errors.Join(temp.Chmod(0o600), temp.Sync()); err != nil {
		return failed("make the seed durable", err)
	}
	if err := atomicfile.Publish(temp.Name(), s.SeedPath(vm)); err != nil {
		return failed("put the seed in place", err)
	}
	if err := atomicfile.SyncDir(s.disks); err != nil {
		return failed("put the seed in place", err)
	}
	return nil
}

// writeISO writes an ISO 9660 image with Rock Ridge, for the case of the names, and Joliet, for guests that know only that.
func writeISO(f *os.File, files map[string]string) (err error) {
	image, err := iso9660.Create(file.New(f, false), 0, 0, 2048, "")
	if err != nil {
		return fmt.Errorf("begin the image: %w", err)
	}
	// The library collects the files in a folder of its own and removes it in Finalize, but not when something fails before.
	defer os.RemoveAll(image.Workspace()) // in the system's folder for such things
	for name, text := range files {
		if err := writeInto(image, name, text); err != nil {
			return err
		}
	}
	if err := image.Finalize(iso9660.FinalizeOptions{VolumeIdentifier: seedLabel, RockRidge: true, Joliet: true}); err != nil {
		return fmt.Errorf("finish the image: %w", err)
	}
	return nil
}

func writeInto(image *iso9660.FileSystem, name, text string) error {
	f, err := image.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	return nil
}
