package runtimetest

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// boxPackage is the program of the image, compiled when a test asks for it.
const boxPackage = "github.com/spillway/spillway/runtime/runtimetest/testdata/box"

// labelBox is the label of the image that holds the name that it was made with.
const labelBox = "spillway.test.box"

// BoxImage builds an image FROM scratch of one static program that knows a few
// verbs (see testdata/box), as docker load takes it, and a name for it that no
// other test uses. Its entrypoint is /box, and it sets BOX=image.
func BoxImage(t testing.TB) (name string, archive []byte) {
	t.Helper()
	return ProgramImage(t, boxPackage)
}

// BoxImageWith does the same with more variables in the image, such as K=V.
func BoxImageWith(t testing.TB, env ...string) (name string, archive []byte) {
	t.Helper()
	return programImage(t, boxPackage, env)
}

// ProgramImage does the same with the program of another package, named by its
// import path. It is /box in the image.
func ProgramImage(t testing.TB, importPath string) (name string, archive []byte) {
	t.Helper()
	return programImage(t, importPath, nil)
}

func programImage(t testing.TB, importPath string, env []string) (name string, archive []byte) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "box")
	build(t, program, importPath)
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	name = "spillway-test-box:" + strings.ToLower(rand.Text()[:12])
	archive, err = pack(name, binary, env)
	if err != nil {
		t.Fatalf("pack the test image: %v", err)
	}
	return name, archive
}

// build compiles the program of the image to a file.
func build(t testing.TB, program, importPath string) {
	t.Helper()
	compile := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, importPath)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build the test image's program: %v\n%s", err, out)
	}
}

// pack writes one binary as an image of one layer. Its name is a label too, so
// that no two images of this kind share an ID.
func pack(name string, binary []byte, env []string) ([]byte, error) {
	layer, err := tarball(file{"box", 0o755, binary})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/box"}, "Cmd": []string{"echo", "hello"},
			"Env":    append([]string{"PATH=/", "BOX=image", "NVIDIA_VISIBLE_DEVICES=all"}, env...), // it would take every GPU
			"Labels": map[string]string{labelBox: name},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return tarball(file{"layer.tar", 0o644, layer}, file{"config.json", 0o644, config}, file{"manifest.json", 0o644, manifest})
}

type file struct {
	name string
	mode int64
	data []byte
}

func tarball(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	return b.Bytes(), w.Close()
}
