package task

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Main runs one attempt and exits the process. A result that is not nil is
// written as JSON; an error becomes the error document and the exit code.
func Main(run func(*Task) (any, error)) {
	os.Exit(int(Run(os.Getenv, os.Stdin, os.Stdout, os.Stderr, run)))
}

// Run is Main without the process around it.
func Run(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer, run func(*Task) (any, error)) Code {
	t, err := Load(getenv, stdin)
	var result any
	if err == nil {
		result, err = run(t)
	}
	if err == nil {
		if err = writeResult(getenv("TASK_RESULT_FILE"), stdout, result); err == nil {
			return ExitOK
		}
	}
	f := asFault(err)
	fmt.Fprintln(stderr, f.Error())
	doc := map[string]any{"error": map[string]any{"type": f.Type, "message": f.Message, "retryable": f.Retryable()}}
	if err := writeResult(getenv("TASK_RESULT_FILE"), stdout, doc); err != nil {
		fmt.Fprintln(stderr, err)
	}
	return f.Code
}

// writeResult writes v in place: the result file may be a mount of its own,
// over which nothing can be renamed.
func writeResult(file string, stdout io.Writer, v any) error {
	if v == nil {
		return nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	body = append(body, '\n')
	if file == "" {
		_, err = stdout.Write(body)
	} else {
		err = os.WriteFile(file, body, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
