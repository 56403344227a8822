package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/functions"
)

type uploadOptions struct {
	function, device string
	event            json.RawMessage
	parallel         int
	resume           string // id of the upload to go on with
	noResume, noWait bool
}

func uploadCommand(app App, f *flags) *cobra.Command {
	var o uploadOptions
	var data string
	cmd := &cobra.Command{
		Use:   "upload FILE... --function NAME",
		Short: "Upload files straight to the store and run a function on each",
		Long: "Upload files straight to the object store by signed requests, run a function on each and show the tasks.\n" +
			"The store checks every SHA-256, so a damaged upload is refused. A large file goes in parts, several at a time.\n" +
			"Run the same command again after an interruption: it sends only what the store does not have yet.",
		Example: "  spillway upload holiday.jpg --function thumbnail\n" +
			"  spillway upload *.mov --function transcode --parallel 8\n" +
			"  spillway upload talk.wav --function transcribe -d '{\"language\":\"en\"}' --no-wait -o name",
		GroupID: groupTasks,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.resume != "" && len(args) > 1:
				return usage("--resume names one upload: give one file")
			case o.parallel < 1 || o.parallel > 64:
				return usage("--parallel %d is out of range 1 to 64", o.parallel)
			}
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			if o.event, err = readEvent(app, data); err != nil {
				return err
			}
			return uploadAll(cmd.Context(), app, f, c, args, o)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.function, "function", "", "function to run")
	fl.StringVar(&o.device, "device", "", "required, preferred, auto, fastest or never; default as the function says")
	fl.StringVarP(&data, "data", "d", "", "JSON event given beside the file; @FILE reads a file, @- standard input")
	fl.IntVar(&o.parallel, "parallel", 4, "parts in flight at once")
	fl.StringVar(&o.resume, "resume", "", "go on with this upload, as its id; the one begun by the same command is found without")
	fl.BoolVar(&o.noResume, "no-resume", false, "begin anew, whatever was sent before")
	fl.BoolVar(&o.noWait, "no-wait", false, "do not wait for the task")
	cmd.MarkFlagsOneRequired("function", "resume")
	cmd.MarkFlagsMutuallyExclusive("resume", "no-resume")
	cmd.MarkFlagsMutuallyExclusive("resume", "device")
	cmd.MarkFlagsMutuallyExclusive("resume", "data")
	suggest(cmd, "device", policies...)
	suggestFunctions(cmd, "function", app, f)
	return cmd
}

// uploadAll uploads the files one after another and shows each task. A file that
// fails is said at once and does not keep the others back, unless nothing can be
// reached or the caller has had enough.
func uploadAll(ctx context.Context, app App, f *flags, c *client, paths []string, o uploadOptions) error {
	store := newStore(o.parallel)
	defer store.http.CloseIdleConnections()
	shown := []json.RawMessage{}
	some := &someFailed{of: len(paths)}
	for i, path := range paths {
		if len(paths) > 1 && !quiet(f.output) {
			fmt.Fprintf(app.Err, "file %d of %d: %s\n", i+1, len(paths), path)
		}
		raw, err := uploadOne(ctx, app, f, c, store, path, o)
		if raw != nil {
			shown = append(shown, raw)
		}
		if err == nil {
			continue
		}
		if len(paths) == 1 || ctx.Err() != nil {
			return errors.Join(showAll(app, f, shown, len(paths)), err)
		}
		Explain(app.Err, err)
		if some.failed++; some.first == nil {
			some.first = err
		}
		if errors.Is(err, errUnreachable) {
			some.left = len(paths) - i - 1
			break
		}
	}
	if err := showAll(app, f, shown, len(paths)); err != nil {
		return err
	}
	if some.failed > 0 {
		return some
	}
	return nil
}

// someFailed says how many of several files failed. It has the class of the
// first failure; each was explained when it happened.
type someFailed struct {
	failed, left, of int
	first            error
}

func (e *someFailed) Error() string {
	if e.left > 0 {
		return fmt.Sprintf("%d of %d files failed, and %d were not tried", e.failed, e.of, e.left)
	}
	return fmt.Sprintf("%d of %d files failed", e.failed, e.of)
}

// Is has the first failure's class without its words and hint.
func (e *someFailed) Is(class error) bool { return errors.Is(e.first, class) }

// uploadOne uploads one file and shows its task. What can be shown only with the
// others is returned.
func uploadOne(ctx context.Context, app App, f *flags, c *client, store *store, path string, o uploadOptions) (json.RawMessage, error) {
	u := &uploader{app: app, c: c, store: store, quiet: quiet(f.output), o: o}
	id, err := u.upload(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("upload %s: %w", path, err)
	}
	var t taskView
	var raw json.RawMessage
	if o.noWait {
		raw, err = c.get(ctx, taskPath(string(id)), &t)
	} else {
		t, raw, err = waitTask(ctx, app, f, c, string(id), time.Time{})
	}
	if err != nil {
		return nil, err
	}
	switch f.output {
	case "json", "yaml":
	case "jsonl", "name":
		raw, err = nil, list{raw: raw, names: []string{t.name()}}.print(app, f.output)
	default:
		raw, err = nil, printTask(app.Out, t)
	}
	if err == nil && !o.noWait {
		err = t.failed()
	}
	return raw, err
}

// showAll prints the tasks in the forms that take one document: a task alone, or
// the list of several.
func showAll(app App, f *flags, shown []json.RawMessage, of int) error {
	switch {
	case f.output != "json" && f.output != "yaml":
		return nil
	case of == 1 && len(shown) == 0:
		return nil
	case of == 1:
		return list{raw: shown[0]}.print(app, f.output)
	}
	all, err := json.Marshal(shown)
	if err != nil {
		return fmt.Errorf("list the tasks: %w", err)
	}
	return list{raw: all}.print(app, f.output)
}

// uploader carries one file to the store.
type uploader struct {
	app   App
	c     *client
	store *store
	quiet bool // nothing is said
	o     uploadOptions

	file   *os.File
	before os.FileInfo // as it was when the upload began
	path   string      // absolute
	bar    *progress   // nil before the first byte
}

// upload sends the file at path and returns the id of its task.
func (u *uploader) upload(ctx context.Context, path string) (id functions.TaskID, err error) {
	if u.file, err = openFile(path); err != nil {
		return "", err
	}
	defer u.file.Close()
	if u.before, err = u.file.Stat(); err != nil {
		return "", fmt.Errorf("read the file: %w", err)
	}
	if !u.before.Mode().IsRegular() {
		return "", usage("%s is not a regular file, so its size is not known beforehand", path)
	}
	if u.path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("find the file: %w", err)
	}
	memory, err := u.remember()
	if err != nil {
		u.say("this upload cannot be remembered, so an interruption would begin it anew: %v", err)
	}
	defer memory.close()
	s, err := u.open(ctx, memory)
	if err != nil {
		return "", err
	}
	if s.State == functions.AwaitingUpload {
		if err := u.send(ctx, s); err != nil {
			return "", u.resumable(err, memory, s)
		}
	}
	memory.forget()
	return s.ID, nil
}

// resumable says how to go on after err, when that is worth saying.
func (u *uploader) resumable(err error, m *memory, s session) error {
	if s.Multipart == nil || errors.Is(err, functions.ErrConflict) {
		return err
	}
	if m != nil {
		u.say("run the same command again to go on with upload %s", s.ID)
	} else {
		u.say("go on with: spillway upload %s --resume %s", u.path, s.ID)
	}
	return err
}

// unchanged fails when the file is not what it was at the start: its parts would
// belong to two files.
func (u *uploader) unchanged() error {
	now, err := os.Stat(u.path)
	if err != nil {
		return fmt.Errorf("read the file: %w", err)
	}
	if now.Size() != u.before.Size() || !now.ModTime().Equal(u.before.ModTime()) {
		return functions.Conflict("file_changed", "the file changed while it was being sent").
			WithHint("upload it again when nothing writes to it any more")
	}
	return nil
}

// say tells a person something on the error stream.
func (u *uploader) say(format string, args ...any) {
	switch {
	case u.bar != nil:
		u.bar.say(format, args...)
	case !u.quiet:
		fmt.Fprintf(u.app.Err, format+"\n", args...)
	}
}

// uploadPath is the API's path of an upload and what is below it.
func uploadPath(id functions.TaskID, below string) string {
	return "/v1/uploads/" + string(id) + below
}

// complete says that the file is there; the answer is the task.
func (u *uploader) complete(ctx context.Context, id functions.TaskID) error {
	return patiently(ctx, func() error {
		_, err := u.c.call(ctx, http.MethodPost, uploadPath(id, "/complete"), nil)
		return err
	})
}
