package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

// Images are the images of what runs containers on this machine.
type Images interface {
	List(ctx context.Context) ([]Image, error)
	// Pull makes an image present; tell hears how far it is.
	Pull(ctx context.Context, name string, tell func(text string)) error
	// Load makes the images of an archive present, as docker save writes it.
	Load(ctx context.Context, archive io.Reader) error
	Remove(ctx context.Context, name string) error
	// Collect removes what the node has pulled and not used lately, down to its
	// budget, and returns what that frees.
	Collect(ctx context.Context) (functions.Bytes, error)
}

// Image is one of them.
type Image struct {
	Names []string        `json:"names"`
	ID    string          `json:"id"`
	Size  functions.Bytes `json:"size"`
	Used  time.Time       `json:"used,omitzero"` // when the node last did; zero = the node has not pulled it
}

// LocalImages is how the images command reaches Images.
type LocalImages struct {
	Bind func(cmd *cobra.Command) // adds the flags that Open reads
	Open func(cmd *cobra.Command) (images Images, release func(), err error)
}

func imagesCommand(app App, f *flags) *cobra.Command {
	with := func(run func(ctx context.Context, images Images, args []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			images, release, err := app.Images.Open(cmd)
			if err != nil {
				return err
			}
			defer release()
			return run(cmd.Context(), images, args)
		}
	}
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List this machine's images; pull, load, remove and collect them",
		Long: "List the images of what runs containers on this machine. USED says when the node last used an image that it has\n" +
			"pulled; only such images does it remove by itself, to keep within --image-budget.",
		Example: "  spillway images\n  spillway images pull registry.example.com/team/echo:1\n  spillway images load echo.tar",
		GroupID: groupCluster,
		Args:    cobra.NoArgs,
		RunE: with(func(ctx context.Context, images Images, _ []string) error {
			return listImages(ctx, app, f, images)
		}),
	}
	app.Images.Bind(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "pull IMAGE...", Short: "Make images present, with the node's credentials", Args: cobra.MinimumNArgs(1),
			Example: "  spillway images pull echo:1 --registry-auth /etc/spillway/registries.json",
			RunE: with(func(ctx context.Context, images Images, args []string) error {
				return pullImages(ctx, app, f, images, args)
			}),
		},
		&cobra.Command{
			Use: "load FILE", Short: "Make the images of an archive present, as docker save writes it; - is standard input", Args: cobra.ExactArgs(1),
			Example: "  spillway images load echo.tar\n  docker save echo:1 | spillway images load -",
			RunE: with(func(ctx context.Context, images Images, args []string) error {
				return loadImage(ctx, app, images, args[0])
			}),
		},
		&cobra.Command{
			Use: "rm IMAGE...", Short: "Remove images; one that a container uses stays", Args: cobra.MinimumNArgs(1),
			Example: "  spillway images rm echo:1",
			RunE: with(func(ctx context.Context, images Images, args []string) error {
				for _, name := range args {
					if err := images.Remove(ctx, name); err != nil {
						return err
					}
				}
				return nil
			}),
		},
		&cobra.Command{
			Use: "gc", Short: "Remove what the node has pulled and not used lately, down to --image-budget", Args: cobra.NoArgs,
			Example: "  spillway images gc --image-budget 10GiB",
			RunE: with(func(ctx context.Context, images Images, _ []string) error {
				freed, err := images.Collect(ctx)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(app.Out, "freed %s\n", freed)
				return err
			}),
		},
	)
	return cmd
}

func listImages(ctx context.Context, app App, f *flags, images Images) error {
	all, err := images.List(ctx)
	if err != nil {
		return err
	}
	out := list{headers: []string{"IMAGE", "ID", "SIZE", "USED"}}
	for _, img := range all {
		raw, err := json.Marshal(img)
		if err != nil {
			return fmt.Errorf("encode an image: %w", err)
		}
		out.items = append(out.items, raw)
		name := strings.Join(img.Names, " ")
		if name == "" {
			name = img.ID
		}
		out.names = append(out.names, name)
		id := strings.TrimPrefix(img.ID, "sha256:")
		out.rows = append(out.rows, []string{name, id[:min(12, len(id))], img.Size.String(), ago(img.Used)})
	}
	if out.raw, err = json.Marshal(map[string]any{"images": out.items}); err != nil {
		return fmt.Errorf("encode the images: %w", err)
	}
	return out.print(app, f.output)
}

func pullImages(ctx context.Context, app App, f *flags, images Images, names []string) error {
	for _, name := range names {
		var last time.Time
		err := images.Pull(ctx, name, func(text string) {
			every := lineEvery
			if terminal(app.Err) {
				every = time.Second
			}
			if now := time.Now(); !quiet(f.output) && now.Sub(last) >= every {
				last = now
				fmt.Fprintln(app.Err, text)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func loadImage(ctx context.Context, app App, images Images, file string) error {
	if file == "-" {
		return images.Load(ctx, app.In)
	}
	r, err := os.Open(file)
	if err != nil {
		return functions.NotFound("no_archive", "there is no archive %s", file).WithHint("write one with: docker save").WithCause(err)
	}
	defer r.Close()
	return images.Load(ctx, r)
}
