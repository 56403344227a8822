package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

func deployCommand(app App, f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "deploy FILE|DIR...",
		Short: "Deploy functions from their function.yaml",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			var out list
			var all []json.RawMessage
			for _, arg := range args {
				raw, err := deployOne(cmd, c, arg)
				if err != nil {
					return fmt.Errorf("deploy %s: %w", arg, err)
				}
				all = append(all, raw)
			}
			out, err = functionList(all)
			if err != nil {
				return err
			}
			return out.print(app.Out, f.output)
		},
	}
}

func deployOne(cmd *cobra.Command, c *client, path string) (json.RawMessage, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "function.yaml")
	}
	spec, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, functions.NotFound("no_spec", "%s does not exist", path).WithHint("name a function.yaml, or the folder that holds one")
		}
		return nil, err
	}
	defer spec.Close()
	resp, err := c.do(cmd.Context(), http.MethodPost, "/v1/functions", http.Header{"Content-Type": {"application/yaml"}}, spec)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil {
		return nil, fmt.Errorf("decode the gateway's answer: %w", err)
	}
	return raw, nil
}

func functionsCommand(app App, f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "functions [NAME]",
		Aliases: []string{"function", "fn"},
		Short:   "List functions, or show one with its versions",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			path := "/v1/functions"
			if len(args) == 1 {
				path += "/" + url.PathEscape(args[0]) + "/versions"
			}
			var page struct{ Functions []json.RawMessage }
			raw, err := c.get(cmd.Context(), path, &page)
			if err != nil {
				return err
			}
			out, err := functionList(page.Functions)
			if err != nil {
				return err
			}
			out.raw = raw
			return out.print(app.Out, f.output)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "rm NAME",
		Short: "Delete a function; tasks that are queued still run",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			_, err = c.call(cmd.Context(), http.MethodDelete, "/v1/functions/"+url.PathEscape(args[0]), nil)
			return err
		},
	})
	return cmd
}

func functionList(items []json.RawMessage) (list, error) {
	out := list{
		items:   items,
		headers: []string{"FUNCTION", "VERSION", "DEVICE", "IMAGE", "AGE", "CPUS", "MEMORY", "TIMEOUT"},
		wide:    5,
	}
	for _, it := range items {
		var fn functions.Function
		if err := decode(it, &fn); err != nil {
			return list{}, err
		}
		out.names = append(out.names, "function/"+string(fn.Name))
		out.rows = append(out.rows, []string{
			string(fn.Name), strconv.Itoa(fn.Version), string(fn.Device), fn.Image, ago(fn.CreatedAt),
			strconv.FormatFloat(fn.Limits.CPUs, 'g', -1, 64), fn.Limits.Memory.String(), fn.Timeout.String(),
		})
	}
	raw, err := json.Marshal(items)
	out.raw = raw
	return out, err
}
