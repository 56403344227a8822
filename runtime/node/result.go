package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sys/unix"
)

// mostResult bounds a result, as a file or on standard output.
const mostResult = functions.MiB

// collectResult fills the result of an attempt that succeeded.
func (n *Node) collectResult(ctx context.Context, a *attempt, root *os.Root, out *functions.Outcome) *functions.Failure {
	if a.spec.Stdout == functions.StdoutResult {
		text, whole := a.output.result()
		if !whole {
			return &functions.Failure{Class: functions.BadOutput, Message: fmt.Sprintf("standard output is over %s, the most that a result may be", mostResult)}
		}
		if json.Valid(text) {
			return n.setResult(ctx, a, text, out)
		}
		if len(text) <= int(functions.InlineLimit) && utf8.Valid(text) {
			s := string(text)
			out.ResultText = &s
			return nil
		}
		return n.referResult(ctx, a, ".result", text, contentType("", text), out)
	}
	data, err := readResult(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // the outputs are the result
	case err != nil:
		return &functions.Failure{Class: functions.BadOutput, Message: "read result.json: " + err.Error()}
	case !json.Valid(data):
		return &functions.Failure{Class: functions.BadOutput, Message: "result.json is not JSON", Hint: "write the whole document, then end with code 0"}
	}
	return n.setResult(ctx, a, data, out)
}

func (n *Node) setResult(ctx context.Context, a *attempt, data []byte, out *functions.Outcome) *functions.Failure {
	if len(data) > int(functions.InlineLimit) {
		return n.referResult(ctx, a, ".result.json", data, "application/json", out)
	}
	out.Result = data
	return nil
}

func (n *Node) referResult(ctx context.Context, a *attempt, suffix string, data []byte, contentType string, out *functions.Outcome) *functions.Failure {
	ref, err := n.putBytes(ctx, a.prefix()+suffix, data, contentType)
	if err != nil {
		return storeFailure("store the result", err)
	}
	out.ResultRef = &ref
	return nil
}

// readResult returns result.json, bounded.
func readResult(root *os.Root) ([]byte, error) {
	f, err := openRegular(root, "result.json")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(mostResult)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > int(mostResult) {
		return nil, fmt.Errorf("it is over %s", mostResult)
	}
	return data, nil
}

// openRegular opens a file that a container may have made, and may be making
// something else of: it does not block on a pipe, and follows no link out.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// complaint is what result.json may say of a failure.
type complaint struct {
	Error *struct {
		Type      string `json:"type"`
		Message   string `json:"message"`
		Retryable *bool  `json:"retryable"`
	} `json:"error"`
}

// explain adds to a failure what the program itself says of it. A plain non-zero
// exit becomes permanent or temporary when the program says which.
func (n *Node) explain(a *attempt, f *functions.Failure) *functions.Failure {
	root, err := os.OpenRoot(a.folder.work())
	if err != nil {
		return f
	}
	defer root.Close()
	data, err := readResult(root)
	var c complaint
	if err != nil || json.Unmarshal(data, &c) != nil || c.Error == nil {
		return f // most programs say nothing
	}
	f.Type = clip(c.Error.Type, 256)
	if own := f.Class == functions.ExitError || f.Class == functions.Permanent || f.Class == functions.TempFail; own && c.Error.Message != "" {
		f.Message = clip(c.Error.Message, 4096)
	}
	if f.Class == functions.ExitError && c.Error.Retryable != nil {
		f.Class = functions.Permanent
		if *c.Error.Retryable {
			f.Class = functions.TempFail
		}
	}
	return f
}

// clip cuts text to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
