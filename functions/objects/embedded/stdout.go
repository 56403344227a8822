package embedded

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// captureStdout runs f while standard output goes to the log: the library
// greets there, where a command's own answer belongs. It swaps the descriptor
// and not os.Stdout, which other goroutines may be reading. What those print
// meanwhile, a few microseconds at start, lands in the log too.
func captureStdout(log *slog.Logger, f func() error) (err error) {
	const stdout = 1
	keep, err := unix.FcntlInt(stdout, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil { // it is closed, and nothing can reach it
		return f()
	}
	defer unix.Close(keep)
	r, w, err := os.Pipe() // holds 64 KiB, far more than the greeting
	if err != nil {
		return fmt.Errorf("capture standard output: %w", err)
	}
	defer r.Close()
	if err := unix.Dup3(int(w.Fd()), stdout, 0); err != nil {
		return fmt.Errorf("capture standard output: %w", err)
	}
	err = f()
	back := unix.Dup3(keep, stdout, 0)
	w.Close()
	if back != nil {
		return fmt.Errorf("restore standard output: %w", back)
	}
	for lines := bufio.NewScanner(io.LimitReader(r, 64<<10)); lines.Scan(); {
		log.Debug("object store said", "text", lines.Text())
	}
	return err
}
