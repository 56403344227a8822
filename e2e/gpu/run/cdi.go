package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// devices is a folder with one CDI specification, which can be taken away and
// spoilt while a node uses it.
type devices struct {
	dir   string
	spec  map[string]any // as it should be
	names []string
}

// describe makes the folder: by nvidia-ctk, or from the specification that the
// folder given holds.
func describe(ctx context.Context, s settings) (*devices, error) {
	d := &devices{dir: filepath.Join(s.work, "cdi")}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, err
	}
	text, err := specification(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &d.spec); err != nil {
		return nil, fmt.Errorf("read the CDI specification: %w", err)
	}
	for _, device := range d.each() {
		if name, ok := device["name"].(string); ok {
			d.names = append(d.names, name)
		}
	}
	if len(d.names) == 0 {
		return nil, errors.New("the CDI specification has no devices")
	}
	return d, d.mend()
}

func specification(ctx context.Context, s settings) ([]byte, error) {
	if s.cdi != "" {
		files, err := filepath.Glob(filepath.Join(s.cdi, "*.[jy][sa][om][nl]"))
		if err != nil || len(files) != 1 {
			return nil, fmt.Errorf("%s holds %d CDI specifications; there must be one", s.cdi, len(files))
		}
		return os.ReadFile(files[0])
	}
	file := filepath.Join(s.work, "nvidia.yaml")
	generate := exec.CommandContext(ctx, filepath.Join(s.bundle, "bin", "nvidia-ctk"), "cdi", "generate", "--output="+file,
		"--device-name-strategy=index", "--device-name-strategy=uuid",
		"--nvidia-cdi-hook-path="+filepath.Join(s.bundle, "bin", "nvidia-cdi-hook"))
	generate.Env = append(os.Environ(), s.path())
	if out, err := generate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("nvidia-ctk cdi generate: %w: %s", err, out)
	}
	return os.ReadFile(file)
}

func (d *devices) each() []map[string]any {
	all, _ := d.spec["devices"].([]any) // a specification of another form has no devices
	var found []map[string]any
	for _, one := range all {
		if device, ok := one.(map[string]any); ok {
			found = append(found, device)
		}
	}
	return found
}

var index = regexp.MustCompile(`^\d+$`)

// count is the number of GPUs, which are those with a number for a name.
func (d *devices) count() int {
	n := 0
	for _, name := range d.names {
		if index.MatchString(name) {
			n++
		}
	}
	return n
}

// knows reports whether a device has the UUID, or none is described by UUID.
func (d *devices) knows(uuid string) bool {
	byUUID := slices.ContainsFunc(d.names, func(n string) bool { return !index.MatchString(n) && n != "all" })
	return !byUUID || slices.Contains(d.names, uuid)
}

func (d *devices) file() string { return filepath.Join(d.dir, "nvidia.json") }

func (d *devices) write(spec map[string]any) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write the CDI specification: %w", err)
	}
	return os.WriteFile(d.file(), text, 0o644)
}

// mend puts the specification back.
func (d *devices) mend() error { return d.write(d.spec) }

// lose takes it away, as on a machine where nobody has run nvidia-ctk.
func (d *devices) lose() error { return os.Remove(d.file()) }

// spoil gives each device a hook that fails, as after an update of the driver.
func (d *devices) spoil() error {
	hook := map[string]any{"hookName": "createRuntime", "path": "/bin/sh", "args": []any{"sh", "-c", "echo 'cannot read libcuda.so' >&2; exit 1"}}
	var spoilt []any
	for _, device := range d.each() {
		edits := map[string]any{"hooks": []any{hook}}
		if had, ok := device["containerEdits"].(map[string]any); ok && had["deviceNodes"] != nil {
			edits["deviceNodes"] = had["deviceNodes"]
		}
		spoilt = append(spoilt, map[string]any{"name": device["name"], "containerEdits": edits})
	}
	return d.write(map[string]any{"cdiVersion": d.spec["cdiVersion"], "kind": d.spec["kind"], "devices": spoilt})
}
