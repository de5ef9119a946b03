package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newImage(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Disk images that machines are made from"}
	cmd.AddCommand(newImageImport(e), newImageList(e), newImageShow(e), newImageUpdate(e), newImageDelete(e))
	return cmd
}

// inParts is from which size on a file is sent in parts, so that a connection that breaks costs little.
const inParts = 64 << 20

func newImageImport(e *env) *cobra.Command {
	var (
		w      waiting
		up     apiclient.ImageUpload
		resume string
	)
	cmd := &cobra.Command{
		Use: "import FILE|URL", Short: "Upload an image, or have the server fetch it", Args: cobra.ExactArgs(1),
		Long: "Upload an image: qcow2, raw, VMDK, VHDX or ISO, as its header says; a kernel or an initrd with --kind. - reads standard input. What begins with http:// or https:// is " +
			"fetched by the server, from where its configuration allows. Images that refer to other files are refused.\n\n" +
			"Large files are sent in parts. An upload that did not get on is continued with --resume and the same file, also after a restart of the server.",
		Example: "  novacron image import debian-12-genericcloud-amd64.qcow2 --name debian-12\n" +
			"  novacron image import https://images.example.org/debian-12.qcow2 --name debian-12\n" +
			"  novacron image import vmlinuz --kind kernel\n" +
			"  novacron image import large.qcow2 --resume 01a209d7-30e1-787e-a855-fa4b96e00f91",
		RunE: func(cmd *cobra.Command, args []string) error {
			if up.Name == "" && args[0] == "-" {
				return usageError{"--name is missing; standard input has none"}
			}
			if up.Name == "" {
				up.Name = imageName(args[0])
			}
			if strings.HasPrefix(args[0], "http://") || strings.HasPrefix(args[0], "https://") {
				return e.fetchImage(cmd, &w, apiclient.ImageCreate{Name: up.Name, URL: args[0], Kind: up.Kind, Format: up.Format, Checksum: up.Checksum})
			}
			f, size, err := e.imageFile(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			up.From, up.Size = f, size
			c, err := e.connect()
			if err != nil {
				return err
			}
			image, err := e.sendImage(cmd.Context(), c, up, resume)
			if err != nil {
				return err
			}
			return e.importedImage(cmd, c, &w, image)
		},
	}
	cmd.Flags().StringVar(&up.Name, "name", "", "name of the image (default: that of the file, without its ending)")
	cmd.Flags().StringVar(&up.Kind, "kind", "", "disk, iso, kernel or initrd (default: disk or iso, as the header says)")
	cmd.Flags().StringVar(&up.Format, "format", "", "qcow2, raw, vmdk, vhdx or iso (default: as the file's header says)")
	cmd.Flags().StringVar(&up.Checksum, "checksum", "", "refuse bytes that do not have this checksum: sha256:HEX")
	cmd.Flags().StringVar(&resume, "resume", "", "go on with the upload of this image, by its id")
	w.addTo(cmd)
	must(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"qcow2", "raw", "vmdk", "vhdx", "iso"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"disk", "iso", "kernel", "initrd"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// sendImage sends a file whole, or in parts where it is large or an earlier upload is to go on.
func (e *env) sendImage(ctx context.Context, c *apiclient.Client, up apiclient.ImageUpload, resume string) (apiclient.Object[vm.Image], error) {
	var image apiclient.Object[vm.Image]
	parts, seekable := up.From.(io.ReaderAt)
	seekable = seekable && up.Size >= 0
	if resume != "" && !seekable {
		return image, usageError{"--resume needs a regular file"}
	}
	tell, end := e.uploading(up.Name, up.Size)
	defer end()
	if resume == "" && (!seekable || up.Size < inParts) {
		up.Progress = tell
		return c.UploadImage(ctx, up)
	}
	id, err := uuid.Parse(resume)
	switch {
	case resume != "" && err != nil:
		return image, usageError{"--resume takes the id of an image, as 'novacron image list' shows it"}
	case resume == "":
		begun, err := c.BeginUpload(ctx, apiclient.ImageCreate{Name: up.Name, SizeBytes: up.Size, Kind: up.Kind, Format: up.Format, Checksum: up.Checksum})
		if err != nil {
			return image, err
		}
		id = begun.Value.ID
	}
	return c.SendParts(ctx, id, parts, up.Size, tell)
}

// fetchImage has the server fetch an image.
func (e *env) fetchImage(cmd *cobra.Command, w *waiting, body apiclient.ImageCreate) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	op, err := c.ImportImage(cmd.Context(), body)
	if err != nil {
		return err
	}
	image, err := c.GetImage(cmd.Context(), op.Value.TargetID)
	if err != nil {
		return err
	}
	return e.importedImage(cmd, c, w, image)
}

// importedImage waits for an import, where that is wanted, and tells of it.
func (e *env) importedImage(cmd *cobra.Command, c *apiclient.Client, w *waiting, image apiclient.Object[vm.Image]) (err error) {
	if w.wanted() && image.Value.Status != vm.ImageReady {
		if image, err = e.awaitImage(cmd, c, w, image); err != nil {
			return err
		}
	}
	if e.quiet || e.forScripts() {
		return printObject(e, image, imageID, nil)
	}
	_, err = fmt.Fprintf(e.out, "Imported image %s: %s (%s)\n", printable(image.Value.Name), e.coloured(string(image.Value.Status)), image.Value.ID)
	return err
}

func newImageUpdate(e *env) *cobra.Command {
	var (
		name, visibility string
		share            []string
	)
	cmd := &cobra.Command{
		Use: "update IMAGE", Short: "Rename an image, or say who may use it", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, imageNames),
		Example: "  novacron image update debian-12 --share 01a209d7-30e1-787e-a855-fa4b96e00f91\n" +
			"  novacron image update debian-12 --visibility private",
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.ImageUpdate
			flags := cmd.Flags()
			if flags.Changed("name") {
				body.Name = &name
			}
			if flags.Changed("share") {
				ids := []uuid.UUID{}
				for _, text := range share {
					id, err := uuid.Parse(text)
					if err != nil {
						return usageError{"--share takes ids of tenants; their people see theirs with 'novacron whoami'"}
					}
					ids = append(ids, id)
				}
				body.SharedWith = &ids
				if shared := string(vm.ImageShared); !flags.Changed("visibility") {
					body.Visibility = &shared
				}
			}
			if flags.Changed("visibility") {
				body.Visibility = &visibility
			}
			if body == (apiclient.ImageUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findImage(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			image, err := c.UpdateImage(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, image, imageID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Updated image %s: %s\n", printable(image.Value.Name), image.Value.Visibility)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&visibility, "visibility", "", "private, shared or public; public needs a permission on the platform")
	cmd.Flags().StringArrayVar(&share, "share", nil, "id of a tenant that may use it; may be repeated, and replaces those before")
	must(cmd.RegisterFlagCompletionFunc("visibility", cobra.FixedCompletions([]string{"private", "shared", "public"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// imageFile opens what is to be uploaded. Its size is -1 where that cannot be known.
func (e *env) imageFile(path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(struct{ io.Reader }{e.in}), -1, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, usageError{err.Error()}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = usageError{path + " is a folder"}
	case info.Mode().IsRegular():
		return f, info.Size(), nil
	default: // a pipe or a device
		return struct {
			io.Reader
			io.Closer
		}{f, f}, -1, nil
	}
	f.Close()
	return nil, 0, err
}

func imageName(path string) string {
	path, _, _ = strings.Cut(path, "?")
	name := filepath.Base(path)
	for _, ending := range []string{".qcow2", ".img", ".raw", ".vmdk", ".vhdx", ".iso"} {
		if short, ok := strings.CutSuffix(name, ending); ok && short != "" {
			return short
		}
	}
	return name
}

func (e *env) awaitImage(cmd *cobra.Command, c *apiclient.Client, w *waiting, image apiclient.Object[vm.Image]) (apiclient.Object[vm.Image], error) {
	ctx, cancel := w.limit(cmd.Context(), "the import of "+image.Value.Name)
	defer cancel()
	operation := image.Value.OperationID
	p := e.progress(image.Value.Name)
	image, err := c.AwaitImage(ctx, image, func(o apiclient.Object[apiclient.Operation]) { p.operation(o.Value) })
	p.end()
	if err != nil && operation != nil {
		err = e.goesOn(operation.String(), err)
	}
	return image, err
}

func imageID(i vm.Image) string { return i.ID.String() }

func newImageList(e *env) *cobra.Command {
	var (
		name string
		most int
	)
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			images, err := apiclient.Collect(c.ListImages(cmd.Context(), name, most))
			if err != nil {
				return err
			}
			return printList(e, images, imageID, []column[vm.Image]{
				{"NAME", func(i vm.Image) string { return printable(i.Name) }},
				{"STATUS", func(i vm.Image) string { return e.coloured(string(i.Status)) }},
				{"FORMAT", func(i vm.Image) string { return i.Format }},
				{"VISIBILITY", func(i vm.Image) string { return string(i.Visibility) }},
				{"SIZE", func(i vm.Image) string { return bytesText(i.SizeBytes) }},
				{"DISK", func(i vm.Image) string { return bytesText(i.VirtualSizeBytes) }},
				{"ID", imageID},
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only those of this name")
	cmd.Flags().IntVar(&most, "limit", 0, "so many at most; 0 lists all")
	return cmd
}

func newImageShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show IMAGE", Short: "Show an image", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, imageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findImage(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			image, err := c.GetImage(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, image, imageID, func(i vm.Image) [][]string {
				fields := [][]string{{"name", printable(i.Name)}, {"id", i.ID.String()}, {"status", e.coloured(string(i.Status))}, {"kind", string(i.Kind)}, {"format", i.Format},
					{"visibility", string(i.Visibility)},
					{"size", bytesText(i.SizeBytes)}, {"disk", bytesText(i.VirtualSizeBytes)}, {"sha256", i.SHA256}, {"tenant", i.TenantID.String()},
					{"owner", i.OwnerID.String()}, {"created", clock(i.CreatedAt)}}
				for _, tenant := range i.SharedWith {
					fields = append(fields, []string{"shared with", tenant.String()})
				}
				if i.SourceURL != "" {
					fields = append(fields, []string{"source", printable(i.SourceURL)})
				}
				if i.Status == vm.ImageUploading {
					fields = append(fields, []string{"arrived", bytesText(i.ReceivedBytes) + " of " + bytesText(i.DeclaredBytes)})
				}
				if i.OperationID != nil {
					fields = append(fields, []string{"operation", i.OperationID.String()})
				}
				if i.Error != nil {
					fields = append(fields, []string{"error", printable(i.Error.Detail + " (" + i.Error.Code + ")")})
				}
				return fields
			})
		},
	}
}

func newImageDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete IMAGE", Aliases: []string{"rm"}, Short: "Delete an image that nothing uses", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, imageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findImage(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteImage(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("image", target)
		},
	}
}

// deleted tells of something that is gone; scripts learn it from the exit code.
func (e *env) deleted(kind string, target named) error {
	var err error
	switch {
	case e.quiet:
		_, err = fmt.Fprintln(e.out, target.id)
	case !e.forScripts():
		_, err = fmt.Fprintf(e.out, "Deleted %s %s.\n", kind, printable(target.name))
	}
	return err
}
