package media

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/spillway/spillway/functions/catalog/task"
)

// protocols is all that ffmpeg may open: a playlist in the input must not make
// it fetch other things.
const protocols = "file,pipe"

// fileURL keeps a name that begins with a dash or holds a colon from being read
// as an option or a protocol.
func fileURL(path string) string { return "file:" + path }

// run returns standard output, the end of standard error, and how it went.
func run(cmd *exec.Cmd) (out []byte, stderr string, err error) {
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.Bytes(), strings.TrimSpace(e.String()), err
}

// notMedia turns a failed command over an untrusted file into what the caller
// can use. A program that could not run at all is not the file's fault.
func notMedia(err error, stderr string) error {
	if _, ran := errors.AsType[*exec.ExitError](err); !ran {
		return fmt.Errorf("run ffmpeg: %w", err)
	}
	return task.Invalid("NotMedia", "the input cannot be read as sound or film: %s", last(stderr))
}

// speaker is how ffmpeg's parts sign their lines; the address differs each time.
var speaker = regexp.MustCompile(`^\[[^\]]* @ 0x[0-9a-f]+\] `)

// last is the last line of what a program said, without who said it, cut to a
// readable length.
func last(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	l := speaker.ReplaceAllString(strings.TrimSpace(lines[len(lines)-1]), "")
	if len(l) > 300 {
		l = l[:300] + "..."
	}
	return l
}
