package main

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu/preflight"
)

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGPUGuideIsTrue holds the guide to GPU hosts to the program: its checks, its
// commands with their flags, its settings, its states, its figures and its hints.
func TestGPUGuideIsTrue(t *testing.T) {
	guide := deployed(t, "gpu-host.md")
	var steps []string
	for _, s := range preflight.Steps(preflight.Machine{Files: os.DirFS(t.TempDir())}) {
		steps = append(steps, s.Name)
		if !strings.Contains(strings.ReplaceAll(guide, "\n", " "), "**"+s.Name+"**") {
			t.Errorf("it does not say what the check %q proves", s.Name)
		}
	}
	for _, m := range regexp.MustCompile(`\*\*([^*]+)\*\*(?:,| \(| \*and)`).FindAllStringSubmatch(guide, -1) {
		if name := strings.ReplaceAll(m[1], "\n", " "); !slices.Contains(steps, name) {
			t.Errorf("it names the check %q, which doctor --gpu has not", name)
		}
	}
	for _, n := range []string{"1", "3"} { // as fixes say
		if !strings.Contains(guide, "\n## Step "+n+": ") {
			t.Errorf("it has no step %s", n)
		}
	}
	holdCommands(t, guide)
	holdSettings(t, guide)
	for _, state := range []functions.GPUState{functions.GPUFree, functions.GPULeased, functions.GPUQuarantined, functions.GPUEjected, functions.GPUUnread} {
		if !strings.Contains(guide, "\n| "+string(state)+" |") {
			t.Errorf("it does not explain the state %s", state)
		}
	}
	figures := ""
	for _, file := range []string{"metrics.go", "metrics_gpu.go"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "gateway", file))
		if err != nil {
			t.Fatal(err)
		}
		figures += string(text)
	}
	for _, m := range regexp.MustCompile("`spillway_(?:gpu_)?([a-z_]+)`").FindAllStringSubmatch(guide, -1) {
		if !strings.Contains(figures, `"`+m[1]+`"`) {
			t.Errorf("it names the figure %s, which is not measured", m[0])
		}
	}
}

// TestGPUGuideHasEveryHint: what a task's failure says to do is in the guide, word
// for word.
func TestGPUGuideHasEveryHint(t *testing.T) {
	guide := deployed(t, "gpu-host.md")
	source, err := os.ReadFile(filepath.Join("..", "..", "runtime", "hint.go"))
	if err != nil {
		t.Fatal(err)
	}
	pairs := regexp.MustCompile(`(?m)^\t\{("(?:[^"\\]|\\.)*"), ("(?:[^"\\]|\\.)*")\},$`).FindAllStringSubmatch(string(source), -1)
	if len(pairs) < 10 {
		t.Fatalf("only %d hints are found in hint.go", len(pairs))
	}
	for _, p := range pairs {
		text, errText := strconv.Unquote(p[1])
		hint, errHint := strconv.Unquote(p[2])
		if err := errors.Join(errText, errHint); err != nil {
			t.Fatal(err)
		}
		if row := "| `" + text + "` | " + hint + " |"; !strings.Contains(guide, row) {
			t.Errorf("it lacks the row %s", row)
		}
	}
	for _, class := range []functions.Class{functions.GPUHost, functions.GPUDevice, functions.GPUImage, functions.GPUUnknown, functions.GPUHung, functions.GPUMemory, functions.GPULost, functions.GPUMissing, functions.GPUUnsuited} {
		if hint := runtime.Hint(class, ""); !regexp.MustCompile("(?m)^\\| `" + string(class) + "` \\| .* \\| " + regexp.QuoteMeta(hint) + " \\|$").MatchString(guide) {
			t.Errorf("it does not say of %s: %s", class, hint)
		}
	}
}

// holdCommands: each spillway command that a page shows is there, with its flags.
func holdCommands(t *testing.T, page string) {
	t.Helper()
	root := command(os.Getenv, nil, nil, nil)
	for _, m := range regexp.MustCompile("(?:^|[\\s`=/])spillway ((?:[a-z]+ ?)+)([^`\\n]*)").FindAllStringSubmatch(page, -1) {
		words := strings.Fields(m[1])
		cmd, rest, err := root.Find(words)
		if err != nil || cmd == root {
			continue // prose: "spillway does"; what is in code is checked below
		}
		if len(rest) > 0 && !strings.Contains(cmd.Use, "[") && cmd.Args != nil && cmd.Args(cmd, rest) != nil {
			t.Errorf("spillway %s does not take %q", strings.Join(words, " "), rest)
		}
		for _, f := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(m[2], -1) {
			if cmd.Flag(f[1]) == nil {
				t.Errorf("spillway %s has no --%s", cmd.Name(), f[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`spillway ([a-z]+)").FindAllStringSubmatch(page, -1) {
		if cmd, _, err := root.Find([]string{m[1]}); err != nil || cmd == root {
			t.Errorf("there is no command spillway %s", m[1])
		}
	}
}

// holdSettings: each variable that a page names is a setting.
func holdSettings(t *testing.T, page string) {
	t.Helper()
	params, err := env.GetFieldParamsWithOptions(&Config{}, env.Options{Prefix: "SPILLWAY_"})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, p := range params {
		known[p.Key] = true
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`SPILLWAY_[A-Z_]*[A-Z]`).FindAllString(page, -1) {
		named[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !known[name] && name != "SPILLWAY_NAME" {
			t.Errorf("%s is no setting", name)
		}
	}
	if len(named) < 3 {
		t.Errorf("only %d settings are found", len(named))
	}
}

// stand is a machine with a spillway that notes how it is called.
type stand struct {
	dir  string
	file string // what the script reads settings from; "" = none
	env  []string
}

func newStand(t *testing.T, doctor int) *stand {
	t.Helper()
	s := &stand{dir: t.TempDir()}
	program := "#!/bin/sh\n" +
		`echo "$*|${SPILLWAY_ENGINE_URL:-}|${SPILLWAY_ENGINE_TOKEN:-}" >>"` + s.dir + `/calls"` + "\n" +
		"[ \"$1\" != doctor ] || exit " + strconv.Itoa(doctor) + "\n"
	if err := os.WriteFile(filepath.Join(s.dir, "spillway"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs the script and returns its exit code, what it said, and the calls.
func (s *stand) start(t *testing.T, args ...string) (code int, said string, calls []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{filepath.Join("..", "..", "deploy", "start-gpu-node.sh")}, args...)...)
	cmd.Env = append([]string{"PATH=" + s.dir + ":/usr/bin:/bin", "SPILLWAY=" + filepath.Join(s.dir, "spillway"), "NODE_ENV_FILE=" + s.file}, s.env...)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if noted, err := os.ReadFile(filepath.Join(s.dir, "calls")); err == nil {
		calls = strings.Split(strings.TrimSpace(string(noted)), "\n")
	}
	return code, string(out), calls
}

func TestStartGPUNode(t *testing.T) {
	t.Run("checks first, and becomes the node", func(t *testing.T) {
		code, said, calls := newStand(t, 0).start(t, "--engine-url", "nats://a b:4222")
		if want := []string{"doctor --gpu||", "node --engine-url nats://a b:4222||"}; code != 0 || !slices.Equal(calls, want) {
			t.Errorf("%d %q %s", code, calls, said)
		}
	})
	t.Run("does not start where a check fails", func(t *testing.T) {
		code, said, calls := newStand(t, 1).start(t)
		if code != 1 || len(calls) != 1 || !strings.Contains(said, "--anyway") || !strings.Contains(said, "deploy/gpu-host.md") {
			t.Errorf("%d %q %s", code, calls, said)
		}
	})
	t.Run("starts on request all the same", func(t *testing.T) {
		code, said, calls := newStand(t, 1).start(t, "--anyway", "--node-id", "g1")
		if code != 0 || len(calls) != 2 || calls[1] != "node --node-id g1||" {
			t.Errorf("%d %q %s", code, calls, said)
		}
	})
	t.Run("reads settings, executes none, and lets the environment go first", func(t *testing.T) {
		s := newStand(t, 0)
		s.file = filepath.Join(s.dir, "node.env")
		text := "# of the cluster\n\nSPILLWAY_ENGINE_URL=nats://file:4222\nSPILLWAY_ENGINE_TOKEN=a=b $(touch " + s.dir + "/pwned) `x`"
		if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.env = []string{"SPILLWAY_ENGINE_URL=nats://given:4222"}
		code, said, calls := s.start(t)
		if want := "node|nats://given:4222|a=b $(touch " + s.dir + "/pwned) `x`"; code != 0 || len(calls) != 2 || calls[1] != want {
			t.Errorf("%d %q %s, want %q", code, calls, said, want)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
			t.Error("a value was executed")
		}
		for _, bad := range []string{"export SPILLWAY_ENGINE_URL=x\n", "SPILLWAY_A-B=x\n", "PATH=/x\n"} {
			if err := os.WriteFile(s.file, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, said, _ := s.start(t); code != 2 || !strings.Contains(said, s.file) {
				t.Errorf("%q: %d %s", bad, code, said)
			}
		}
	})
	t.Run("names what is missing", func(t *testing.T) {
		s := newStand(t, 0)
		s.file = filepath.Join(s.dir, "none.env")
		if code, said, _ := s.start(t); code != 2 || !strings.Contains(said, "none.env cannot be read") {
			t.Errorf("%d %s", code, said)
		}
		s.file, s.env = "", []string{"SPILLWAY=/no/such/spillway"}
		if code, said, _ := s.start(t); code != 2 || !strings.Contains(said, "there is no /no/such/spillway") {
			t.Errorf("%d %s", code, said)
		}
	})
}

// TestStartScriptsAreTrue: they name settings and commands that there are, and
// each leads to the next.
func TestStartScriptsAreTrue(t *testing.T) {
	sh, ps1, bat := deployed(t, "start-gpu-node.sh"), deployed(t, "start-gpu-node.ps1"), deployed(t, "start-gpu-node.bat")
	for _, text := range []string{sh, ps1} {
		holdSettings(t, text)
		holdCommands(t, text)
	}
	if !strings.Contains(ps1, "'start-gpu-node.sh'") || !strings.Contains(bat, "start-gpu-node.ps1") || !strings.Contains(bat, "\r\n") {
		t.Error("the scripts for Windows do not lead to the one for Linux")
	}
	if strings.Count(ps1, "{") != strings.Count(ps1, "}") || strings.Count(ps1, "(") != strings.Count(ps1, ")") {
		t.Error("start-gpu-node.ps1 has a bracket too many")
	}
	lint, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("SKIPPED: no shellcheck here (deploy/setup.sh test installs it)")
	}
	if out, err := exec.CommandContext(t.Context(), lint, filepath.Join("..", "..", "deploy", "start-gpu-node.sh")).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
