package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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
		Long: "Deploy functions from their function.yaml. A changed spec is a new version and is in force at once;\n" +
			"the same spec again is the same version. A wrong spec changes nothing, and the error names line and key.",
		Example: "  spillway deploy function.yaml\n" +
			"  spillway deploy functions/catalog/echo functions/catalog/thumbnail",
		GroupID: groupFunctions,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			all := []json.RawMessage{}
			var failed error
			for _, arg := range args {
				raw, err := deployOne(cmd, c, arg)
				if err != nil {
					failed = fmt.Errorf("deploy %s: %w", arg, err)
					break
				}
				warned(app, raw)
				all = append(all, raw)
			}
			if failed != nil && len(all) == 0 {
				return failed
			}
			out, err := functionList(all)
			if err == nil {
				out.raw, err = json.Marshal(all)
			}
			if err == nil {
				err = out.print(app, f.output) // what was deployed before the failure is in force
			}
			return errors.Join(failed, err)
		},
	}
}

func deployOne(cmd *cobra.Command, c *client, path string) (json.RawMessage, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "function.yaml")
	}
	spec, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, functions.NotFound("no_spec", "%s does not exist", path).WithHint("name a function.yaml, or the folder that holds one")
	}
	if err != nil {
		return nil, fmt.Errorf("read the spec: %w", err)
	}
	return c.send(cmd.Context(), http.MethodPost, "/v1/functions", "application/yaml", spec)
}

func functionsCommand(app App, f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "functions [NAME]",
		Aliases: []string{"function", "fn"},
		Short:   "List functions, or show one with its versions",
		Example: "  spillway functions\n" +
			"  spillway functions thumbnail -o yaml",
		GroupID:           groupFunctions,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: functionNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			path := "/v1/functions"
			if len(args) == 1 {
				path = functionPath(args[0]) + "/versions"
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
			return out.print(app, f.output)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "rm NAME",
		Short:             "Delete a function; tasks that are accepted still run",
		Example:           "  spillway functions rm thumbnail",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: functionNames(app, f, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			_, err = c.call(cmd.Context(), http.MethodDelete, functionPath(args[0]), nil)
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
	return out, nil
}
