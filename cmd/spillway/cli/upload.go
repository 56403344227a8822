package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/spillway/spillway/functions"
)

func uploadCommand(app App, f *flags) *cobra.Command {
	var fn, device, data string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "upload FILE --function NAME",
		Short: "Upload a file straight to the store and run a function on it",
		Long: "Upload a file of up to 5 GiB straight to the object store by a signed request, run a function on it and\n" +
			"show the task. The store checks the file's SHA-256, so a damaged upload is refused.",
		Example: "  spillway upload holiday.jpg --function thumbnail\n" +
			"  spillway upload talk.wav --function transcribe -d '{\"language\":\"en\"}' --no-wait -o name",
		GroupID: groupTasks,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient(app, f)
			if err != nil {
				return err
			}
			event, err := readEvent(app, data)
			if err != nil {
				return err
			}
			ask := map[string]any{"function": fn}
			if device != "" {
				ask["device"] = device
			}
			if len(event) > 0 {
				ask["event"] = event
			}
			id, err := upload(cmd.Context(), app, f, c, args[0], ask)
			if err != nil {
				return fmt.Errorf("upload %s: %w", args[0], err)
			}
			return showTask(cmd.Context(), app, f, c, id, !noWait)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&fn, "function", "", "function to run")
	fl.StringVar(&device, "device", "", "required, preferred, auto or never; default as the function says")
	fl.StringVarP(&data, "data", "d", "", "JSON event given beside the file; @FILE reads a file, @- standard input")
	fl.BoolVar(&noWait, "no-wait", false, "do not wait for the task")
	_ = cmd.MarkFlagRequired("function") // the only error is a flag that is not there
	suggest(cmd, "device", policies...)
	suggestFunctions(cmd, "function", app, f)
	return cmd
}

// upload asks for a signed request, sends the file with it, says that it is
// there, and returns the id of the task.
func upload(ctx context.Context, app App, f *flags, c *client, path string, ask map[string]any) (id string, err error) {
	file, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum, size, err := hashFile(file)
	if err != nil {
		return "", fmt.Errorf("read the file: %w", err)
	}
	ask["name"], ask["size"], ask["content_type"], ask["sha256"] = filepath.Base(path), size, contentType(path), sum
	raw, err := c.call(ctx, http.MethodPost, "/v1/uploads", ask)
	if err != nil {
		return "", err
	}
	var session struct {
		ID     functions.TaskID           `json:"id"`
		Upload functions.PresignedRequest `json:"upload"`
	}
	if err := decode(raw, &session); err != nil {
		return "", err
	}
	if err := put(ctx, app, f, session.Upload, file, size); err != nil {
		return "", err
	}
	_, err = c.call(ctx, http.MethodPost, "/v1/uploads/"+string(session.ID)+"/complete", nil)
	return string(session.ID), err
}

// hashFile returns the SHA-256 and size of f and rewinds it.
func hashFile(f *os.File) (sum string, size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// put sends the file straight to the object store, with a bar on a terminal.
func put(ctx context.Context, app App, f *flags, to functions.PresignedRequest, file io.Reader, size int64) error {
	body := file
	if size == 0 {
		body = http.NoBody
	}
	if terminal(app.Err) && !quiet(f.output) {
		bars := mpb.NewWithContext(ctx, mpb.WithOutput(app.Err))
		bar := bars.AddBar(size,
			mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.EwmaSpeed(decor.SizeB1024(0), "  % .1f", 30), decor.OnComplete(decor.EwmaETA(decor.ET_STYLE_GO, 30), "")))
		body = bar.ProxyReader(body)
		defer bars.Wait()
		defer bar.Abort(false)
	}
	req, err := http.NewRequestWithContext(ctx, to.Method, to.URL, body)
	if err != nil {
		return fmt.Errorf("the gateway signed a request that cannot be sent: %w", err)
	}
	req.ContentLength = size
	for k, v := range to.Headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return unreachable(ctx, "the object store", origin(to.URL), err).
			WithHint("clients must reach the store too: set the server's --store-public to an address that this machine can open")
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // of an error answer, what came is enough
		return fmt.Errorf("the store answered %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return nil
}

// origin is the part of a signed URL that may be shown.
func origin(signed string) string {
	u, err := url.Parse(signed)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Scheme + "://" + u.Host
}
