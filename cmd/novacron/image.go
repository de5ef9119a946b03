package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newImage(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Disk images that machines are made from"}
	cmd.AddCommand(newImageImport(e), newImageList(e), newImageShow(e), newImageDelete(e))
	return cmd
}

func newImageImport(e *env) *cobra.Command {
	var (
		w  waiting
		up apiclient.ImageUpload
	)
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Upload a disk image, qcow2 or raw", Args: cobra.ExactArgs(1),
		Long: "Upload a disk image, qcow2 or raw. - reads standard input. Images that refer to other files are refused.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			f, size, err := e.imageFile(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			if up.Name == "" && args[0] == "-" {
				return usageError{"--name is missing; standard input has none"}
			}
			if up.Name == "" {
				up.Name = imageName(args[0])
			}
			up.From, up.Size = f, size
			c, err := e.connect()
			if err != nil {
				return err
			}
			tell, end := e.uploading(up.Name, size)
			up.Progress = tell
			image, err := c.UploadImage(ctx, up)
			end()
			if err != nil {
				return err
			}
			if w.wanted() && image.Value.Status != vm.ImageReady {
				if image, err = e.awaitImage(cmd, c, &w, image); err != nil {
					return err
				}
			}
			if e.quiet || e.forScripts() {
				return printObject(e, image, imageID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Imported image %s: %s (%s)\n", printable(image.Value.Name), e.coloured(string(image.Value.Status)), image.Value.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&up.Name, "name", "", "name of the image (default: that of the file, without its ending)")
	cmd.Flags().StringVar(&up.Format, "format", "", "qcow2 or raw (default: as the file's header says)")
	cmd.Flags().StringVar(&up.Checksum, "checksum", "", "refuse bytes that do not have this checksum: sha256:HEX")
	w.addTo(cmd)
	must(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"qcow2", "raw"}, cobra.ShellCompDirectiveNoFileComp)))
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
	name := filepath.Base(path)
	for _, ending := range []string{".qcow2", ".img", ".raw"} {
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
				fields := [][]string{{"name", printable(i.Name)}, {"id", i.ID.String()}, {"status", e.coloured(string(i.Status))}, {"format", i.Format},
					{"size", bytesText(i.SizeBytes)}, {"disk", bytesText(i.VirtualSizeBytes)}, {"sha256", i.SHA256}, {"tenant", i.TenantID.String()},
					{"owner", i.OwnerID.String()}, {"created", clock(i.CreatedAt)}}
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
		Use: "delete IMAGE", Aliases: []string{"rm"}, Short: "Delete an image that no machine was made from", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, imageNames),
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
