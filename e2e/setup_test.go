package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSetupInstallsDocker runs the real set-up script on a machine without
// Docker: package manager, engine and client are stand-ins in a PATH that holds
// nothing else of the kind. The script installs docker.io, starts the engine,
// waits for it, and says both.
func TestSetupInstallsDocker(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the script installs as root alone")
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("here systemd would start the engine")
	}
	bin := t.TempDir()
	for _, tool := range []string{"bash", "env", "id", "nohup", "sleep", "seq", "cat", "touch", "chmod", "go", "git", "curl"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	script := func(name, body string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/usr/bin/env bash\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("apt-get", `echo "$@" >>"$BIN/apt.log"
case "$*" in *install*docker.io*)
	printf '#!/usr/bin/env bash\ntouch "$BIN/up"\n' >"$BIN/dockerd"; chmod +x "$BIN/dockerd"
	printf '#!/usr/bin/env bash\n[ -e "$BIN/up" ]\n' >"$BIN/docker"; chmod +x "$BIN/docker";;
esac
`)
	run := func() string {
		t.Helper()
		setup := exec.Command("../deploy/setup.sh")
		setup.Env = []string{"PATH=" + bin, "BIN=" + bin, "DOCKERD_LOG=" + filepath.Join(bin, "dockerd.log")}
		out, err := setup.CombinedOutput()
		if err != nil {
			t.Fatalf("setup: %v\n%s", err, out)
		}
		return string(out)
	}
	first := run()
	for _, want := range []string{"installing docker.io from Debian's packages", "starting the Docker Engine"} {
		if !strings.Contains(first, want) {
			t.Errorf("it does not say %q:\n%s", want, first)
		}
	}
	if log, err := os.ReadFile(filepath.Join(bin, "apt.log")); err != nil || strings.Count(string(log), "docker.io") != 1 {
		t.Errorf("apt-get was asked for %q (err %v), want docker.io once", log, err)
	}
	if again := run(); again != "" {
		t.Errorf("with Docker there, it still says %q", again)
	}
}
