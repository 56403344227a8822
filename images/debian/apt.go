package debian

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
)

// apt is apt-get with a state of its own: it believes that nothing is installed
// and leaves the machine's own lists and locks alone.
type apt struct {
	dir string
}

func newApt(dir string) (*apt, error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, functions.Unavailable("no_apt", "this machine has no %s", tool).
				WithHint("build with the Dockerfiles in images/base, which need an image registry").WithCause(err)
		}
	}
	a := &apt{dir: dir}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make apt's folders: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, fmt.Errorf("make apt's folders: %w", err)
	}
	return a, nil
}

// run runs apt-get in the folder work, where downloads end up. Several may run at
// once: none writes a cache of its own.
func (a *apt) run(ctx context.Context, work string, args ...string) (string, error) {
	opts := []string{
		"-qq", "-y",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Cache::pkgcache=",
		"-o", "Dir::Cache::srcpkgcache=",
		"-o", "APT::Install-Recommends=false",
		"-o", "APT::Sandbox::User=root", // its own user may not reach our folders
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=3",
		"-o", "Debug::NoLocking=true",
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(opts, args...)...)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", functions.Unavailable("apt_failed", "apt-get %s: %s", args[0], lastLine(errs.String())).
			WithHint("see that `apt-get update` works on this machine").WithCause(err)
	}
	return out.String(), nil
}

// closure returns the wanted packages and all that they depend on, by name.
func (a *apt) closure(ctx context.Context, wanted []string) ([]string, error) {
	out, err := a.run(ctx, a.dir, append([]string{"install", "--print-uris"}, wanted...)...)
	if err != nil {
		return nil, err
	}
	return parseURIs(out)
}

// parseURIs reads lines of the form 'URL' name_version_arch.deb size hash.
func parseURIs(out string) ([]string, error) {
	var names []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "'") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("read apt's answer: %q is not a package", strings.TrimSpace(line))
		}
		name, _, ok := strings.Cut(fields[1], "_")
		if !ok {
			return nil, fmt.Errorf("read apt's answer: %q is not a package file", fields[1])
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// download fetches the packages into the empty folder work, checked against the
// signed lists, and returns their files sorted by name.
func (a *apt) download(ctx context.Context, work string, names []string) ([]string, error) {
	if _, err := a.run(ctx, work, append([]string{"download"}, names...)...); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(files) < len(names) {
		return nil, functions.Unavailable("apt_failed", "apt-get download left %d files for %d packages", len(files), len(names))
	}
	slices.Sort(files)
	return files, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
