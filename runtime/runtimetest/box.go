package runtimetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway/spillway/functions"
)

// Box does in a Fake what the program of BoxImage does in a container, but for
// the verbs that only a kernel can answer.
func Box(ctx context.Context, p *Process) int {
	args := p.Args
	if len(args) > 0 && args[0] == "/box" {
		args = args[1:]
	} else if len(args) > 0 && strings.HasPrefix(args[0], "/") {
		return 127
	}
	if len(args) == 0 {
		args = []string{"echo", "hello"}
	}
	words := strings.Join(args[1:], " ")
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(arg(i)) // a test's own mistake shows in its result
		return n
	}
	switch args[0] {
	case "echo":
		fmt.Fprintln(p.Stdout, words)
	case "warn":
		fmt.Fprintln(p.Stderr, words)
	case "fail":
		fmt.Fprintln(p.Stderr, strings.Join(args[2:], " "))
		return number(1)
	case "exit":
		return number(1)
	case "signal":
		return 128 + number(1)
	case "sleep":
		d, _ := time.ParseDuration(arg(1))
		sleep(ctx, d)
	case "cat":
		return cat(p, arg(1))
	case "lines":
		out, err := bufio.NewWriter(p.Stdout), bufio.NewWriter(p.Stderr)
		for i := range number(1) {
			fmt.Fprintf(out, "out %d\n", i)
			fmt.Fprintf(err, "err %d\n", i)
		}
		out.Flush()
		err.Flush()
	case "env":
		value := p.Getenv(arg(1))
		if value == "" && arg(1) == "BOX" {
			value = "image" // what the image itself sets
		}
		fmt.Fprintln(p.Stdout, value)
	case "now":
		fmt.Fprintln(p.Stdout, time.Now().UnixNano())
	case "trap":
		term := p.Trap()
		fmt.Fprintln(p.Stdout, "ready")
		select {
		case <-term:
		case <-ctx.Done():
		}
		fmt.Fprintln(p.Stdout, "terminated")
		return number(1)
	case "deaf":
		p.Trap()
		fmt.Fprintln(p.Stdout, "ready")
		<-ctx.Done()
	case "wait":
		fmt.Fprintln(p.Stdout, "ready")
		<-ctx.Done()
	case "alloc":
		p.Use(ctx, functions.Bytes(number(1))*functions.MiB)
		fmt.Fprintln(p.Stdout, "allocated", number(1)<<20)
	case "write":
		return write(p, arg(1), number(2))
	default:
		fmt.Fprintln(p.Stderr, "box: unknown verb", args[0])
		return 64
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func cat(p *Process, file string) int {
	from := p.Stdin
	if file != "" {
		path, err := p.Path(file)
		if err != nil {
			fmt.Fprintln(p.Stderr, "box:", err)
			return 1
		}
		f, err := os.Open(path)
		if err != nil {
			fmt.Fprintln(p.Stderr, "box:", err)
			return 1
		}
		defer f.Close()
		from = f
	}
	if _, err := io.Copy(p.Stdout, from); err != nil {
		return 1
	}
	return 0
}

func write(p *Process, file string, mib int) int {
	path, err := p.Path(file)
	for _, m := range p.Spec.Mounts {
		if strings.HasPrefix(file, m.Target+"/") && m.ReadOnly {
			err = fmt.Errorf("open %s: %w", file, syscall.EROFS)
		}
	}
	size := functions.Bytes(mib) * functions.MiB
	if limit := p.Spec.FileSize; err == nil && limit > 0 && size > limit {
		err = fmt.Errorf("write %s: %w", file, syscall.EFBIG)
	}
	if err == nil {
		err = os.WriteFile(path, make([]byte, size), 0o600)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, "box:", err)
		return 1
	}
	return 0
}
