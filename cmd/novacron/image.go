package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

var images = collection{path: "/api/v1/images", what: "image", columns: []column{col("name", "name"), col("status", "status"), col("format", "format"),
	{"disk", func(o map[string]any) string { return bytesText(o["virtual_size_bytes"]) }},
	{"stored", func(o map[string]any) string { return bytesText(o["size_bytes"]) }}, col("created", "created_at"), col("id", "id")}}

func newImage(c *cli) *cobra.Command {
	var name, format, checksum string
	load := &cobra.Command{
		Use: "import FILE", Short: "Upload a disk image (qcow2 or raw)", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return usageError{fmt.Errorf("open image: %w", err)}
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return fmt.Errorf("open image: %w", err)
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
			}
			query := url.Values{"name": {name}}
			for key, value := range map[string]string{"format": format, "checksum": checksum} {
				if value != "" {
					query.Set(key, value)
				}
			}
			shown, last := c.newProgress(cmd.ErrOrStderr()), int64(-1)
			raw, err := client.Upload(cmd.Context(), query, f, func(sent int64) {
				if percent := sent * 100 / max(info.Size(), 1); percent/10 != last/10 || last < 0 {
					last = percent
					shown.tell(int(percent), "upload")
				}
			})
			shown.end()
			if err != nil {
				return err
			}
			var image struct {
				ID          string `json:"id"`
				OperationID string `json:"operation_id"`
			}
			if err := json.Unmarshal(raw, &image); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			if image.OperationID != "" && !c.noWait {
				var op json.RawMessage
				if err := client.Do(cmd.Context(), http.MethodGet, "/api/v1/operations/"+image.OperationID, nil, &op); err != nil {
					return err
				}
				_, ended, err := c.follow(cmd.Context(), client, op, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				if err := ended.failure(); err != nil {
					return err
				}
				if err := client.Do(cmd.Context(), http.MethodGet, images.path+"/"+image.ID, nil, &raw); err != nil {
					return err
				}
			}
			return c.print(cmd.OutOrStdout(), []json.RawMessage{raw}, true, images.columns...)
		},
	}
	load.Flags().StringVar(&name, "name", "", "name of the image (default: the file's)")
	load.Flags().StringVar(&format, "format", "", "qcow2 or raw (default: what the header says)")
	load.Flags().StringVar(&checksum, "checksum", "", "sha256:<hex> that the bytes must have")
	cmd := &cobra.Command{Use: "image", Short: "Disk images"}
	cmd.AddCommand(c.list(images, "name"), c.show(images), load, c.removeImage())
	return cmd
}

// removeImage deletes an image, which takes no operation.
func (c *cli) removeImage() *cobra.Command {
	cmd := c.remove(images)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := c.authenticated()
		if err != nil {
			return err
		}
		id, err := resolve(cmd.Context(), client, images.path, images.what, args[0])
		if err != nil {
			return err
		}
		if err := client.Do(cmd.Context(), http.MethodDelete, images.path+"/"+id, nil, nil); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted image %s.\n", args[0])
		return nil
	}
	return cmd
}
