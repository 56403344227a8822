// Command run does the whole job on a machine with an NVIDIA GPU and nothing else
// installed: it brings its own containerd, runc and NVIDIA tools, in the folder
// where it lies (e2e/gpu/bundle.sh builds that), touches nothing outside of a
// folder of its own, and writes what it saw as a table. See e2e/gpu/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// settings are what a run can be told.
type settings struct {
	bundle   string    // folder of bin and images
	work     string    // new folder for everything that is written; removed in the end
	results  string    // file of the report
	cdi      string    // folder of CDI specifications to use; empty = ask nvidia-ctk for one
	runtimes []string  // of containerd and oci
	models   []string  // sizes that speech knows
	seconds  []float64 // of sound
	launches int       // of each kind that are timed
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	var s settings
	flags.StringVar(&s.bundle, "bundle", filepath.Dir(self), "folder of the programs and images")
	flags.StringVar(&s.results, "results", "RESULTS.md", "file for the tables")
	flags.StringVar(&s.cdi, "cdi", "", "folder of CDI specifications to use instead of asking nvidia-ctk for one")
	flags.IntVar(&s.launches, "launches", 20, "launches of each kind to time")
	runtimes := flags.String("runtimes", "containerd,oci", "what runs the containers, one after the other; the model is measured on the first that works")
	models := flags.String("models", "base,small", "sizes of the model to measure; empty = none")
	seconds := flags.String("seconds", "15,120,780", "lengths of sound to measure, in seconds")
	under := flags.String("work", "", "folder in which to make a folder for everything that is written; default as TMPDIR says")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.runtimes, s.models = list(*runtimes), list(*models)
	for _, text := range list(*seconds) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("-seconds: %q is no number of seconds", text)
		}
		s.seconds = append(s.seconds, n)
	}
	if s.bundle, err = filepath.Abs(s.bundle); err != nil {
		return err
	}
	// Short: the path of a socket may have 107 bytes.
	if s.work, err = os.MkdirTemp(*under, "swg"); err != nil {
		return err
	}
	if s.work, err = filepath.Abs(s.work); err != nil {
		return err
	}
	return whole(ctx, s)
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// whole does everything and writes the report, of what went wrong as well. Its
// error says that some of it did.
func whole(ctx context.Context, s settings) (err error) {
	defer func() {
		unmount(s.work)
		if gone := os.RemoveAll(s.work); err == nil {
			err = gone
		}
	}()
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers need root: run this as root")
	}
	r := &report{path: s.results}
	r.machine(ctx, s)
	j := &job{settings: s, report: r}
	if err := j.all(ctx); err != nil {
		r.check("", "the run itself", false, "%v", err)
	}
	if err := os.WriteFile(s.results, []byte(r.markdown()), 0o644); err != nil {
		return err
	}
	fmt.Print(r.markdown())
	if bad := r.failed(); bad > 0 {
		return fmt.Errorf("%d of %d checks failed; %s says which", bad, len(r.checks), s.results)
	}
	return nil
}
