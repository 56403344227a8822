// Command imagebuild builds the images of the shipped functions and loads them
// into Docker; with -out it writes archives for docker load instead.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spillway/spillway/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "imagebuild:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("imagebuild", flag.ContinueOnError)
	bin := flags.String("bin", "build/catalog", "folder of the programs")
	cache := flags.String("cache", "build/layers", "folder for package layers")
	out := flags.String("out", "", "write archives into this folder and load nothing")
	only := flags.String("only", "", "build this group alone: static, documents or media")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c := images.CatalogConfig{Bin: *bin, Cache: *cache, Out: *out, Only: *only, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if *out == "" {
		c.Engine = images.DockerCLI{}
	}
	start := time.Now()
	built, err := images.BuildCatalog(ctx, c)
	for _, b := range built {
		if b.Fresh {
			fmt.Printf("%-32s built in %s\n", b.Ref, b.Took.Round(time.Millisecond))
		} else {
			fmt.Printf("%-32s up to date\n", b.Ref)
		}
	}
	if err == nil {
		fmt.Printf("images ready in %s\n", time.Since(start).Round(time.Millisecond))
	}
	return err
}
