package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spillway/spillway/functions"
)

// callInput is what a person gives a call: an event or a file, and a device.
type callInput struct {
	data, file, device string
}

// open returns the body of the call with its headers.
func (in callInput) open(app App) (io.Reader, http.Header, error) {
	header := http.Header{}
	if in.device != "" {
		header.Set("Spillway-Device", in.device)
	}
	if in.file != "" {
		file, err := openFile(in.file) // closed by the HTTP client, which closes every body
		if err != nil {
			return nil, nil, err
		}
		st, err := file.Stat()
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", in.file, err)
		}
		header.Set("Content-Type", contentType(in.file))
		header.Set("Expect", "100-continue") // a refusal must not be lost in a file that is still being sent
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(in.file)}))
		if st.Mode().IsRegular() { // a length lets the gateway refuse a large file before it is sent
			return sized{file, st.Size()}, header, nil
		}
		return file, header, nil
	}
	event, err := readEvent(app, in.data)
	if err != nil {
		return nil, nil, err
	}
	header.Set("Content-Type", "application/json")
	return bytes.NewReader(event), header, nil
}

// sized is a body whose length is known.
type sized struct {
	io.ReadCloser
	size int64
}

// readEvent reads the value of -d: JSON, @FILE, or @- for standard input.
func readEvent(app App, data string) (json.RawMessage, error) {
	event := []byte(data)
	if name, ok := strings.CutPrefix(data, "@"); ok {
		var err error
		if name == "-" {
			event, err = io.ReadAll(app.In)
		} else if event, err = os.ReadFile(name); errors.Is(err, fs.ErrNotExist) {
			return nil, functions.NotFound("no_file", "%s does not exist", name)
		}
		if err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
	}
	if len(bytes.TrimSpace(event)) > 0 && !json.Valid(event) {
		return nil, usage("the event is not JSON; write -d '{\"key\":\"value\"}', or send a file with -f")
	}
	return event, nil
}

// openFile opens a file that a person named.
func openFile(path string) (*os.File, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, functions.NotFound("no_file", "%s does not exist", path)
	case err == nil && st.IsDir():
		return nil, usage("%s is a folder; name a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the file: %w", err)
	}
	return f, nil
}

// contentType is what a file's name says of it.
func contentType(file string) string {
	if t := mime.TypeByExtension(filepath.Ext(file)); t != "" {
		return t
	}
	return "application/octet-stream"
}
