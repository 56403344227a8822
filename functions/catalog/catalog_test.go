package catalog_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/spec"
)

// specs reads every function.yaml, by folder.
func specs(t *testing.T) map[string]functions.Spec {
	t.Helper()
	files, err := filepath.Glob("*/function.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no specs here: %v", err)
	}
	all := map[string]functions.Spec{}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s, err := spec.Parse(body)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		all[filepath.Dir(f)] = s
	}
	return all
}

func TestEverySpecIsValidAndNamedLikeItsFolder(t *testing.T) {
	all := specs(t)
	for _, want := range []string{"echo", "thumbnail", "media-info", "waveform", "extract-text", "transcribe"} {
		if _, ok := all[want]; !ok {
			t.Errorf("%s has no spec", want)
		}
	}
	for dir, s := range all {
		if string(s.Name) != dir || s.Image != "spillway/"+dir+":latest" || s.Description == "" {
			t.Errorf("%s: name %q, image %q, description %q", dir, s.Name, s.Image, s.Description)
		}
		if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestEachClassOfContentHasOneFunction(t *testing.T) {
	by := map[functions.ContentClass][]string{}
	for dir, s := range specs(t) {
		for _, c := range s.Handles {
			by[c] = append(by[c], dir)
		}
	}
	for _, c := range []functions.ContentClass{functions.Audio, functions.Video, functions.Image, functions.Document} {
		if len(by[c]) != 1 {
			t.Errorf("%s is served by %v, want one function", c, by[c])
		}
	}
}

func TestReportsInTheInboxStartExtractText(t *testing.T) {
	s := specs(t)["extract-text"]
	matches := func(bucket, key string) bool {
		return slices.ContainsFunc(s.Triggers, func(tr functions.Trigger) bool { return tr.Matches(bucket, key, "application/pdf") })
	}
	if !matches("inbox", "docs/report.pdf") || matches("inbox", "report.pdf") || matches("uploads", "docs/report.pdf") {
		t.Errorf("triggers: %+v", s.Triggers)
	}
}

func TestTranscribeFallsBackToWhatACPUCanDo(t *testing.T) {
	s := specs(t)["transcribe"]
	if gpu := s.On(functions.GPU); gpu.Env["WHISPER_COMPUTE"] != "float16" {
		t.Errorf("GPU: %v", gpu.Env)
	}
	if cpu := s.On(functions.CPU); cpu.Env["WHISPER_COMPUTE"] != "int8" || cpu.Timeout <= s.Timeout {
		t.Errorf("CPU: %v, timeout %v", cpu.Env, cpu.Timeout)
	}
}

// TestInTheirImages runs the tests that need a program of the image inside it:
// elsewhere they skip when the machine lacks the program.
func TestInTheirImages(t *testing.T) {
	for _, tc := range []struct{ pkg, image string }{
		{"./media", "spillway/waveform:latest"},
		{"./extract-text", "spillway/extract-text:latest"},
	} {
		t.Run(tc.pkg, func(t *testing.T) {
			if err := exec.Command("docker", "image", "inspect", tc.image).Run(); err != nil {
				t.Skipf("no image %s here; images/build.sh makes it", tc.image)
			}
			bin := filepath.Join(t.TempDir(), "test")
			build := exec.Command("go", "test", "-c", "-o", bin, tc.pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build the test: %v\n%s", err, out)
			}
			run := exec.Command("docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
				"-v", bin+":/test:ro", "--entrypoint", "/test", tc.image, "-test.v", "-test.skip", "Refuses|Fuzz")
			out, err := run.CombinedOutput()
			if err != nil || strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("in %s: %v\n%s", tc.image, err, out)
			}
		})
	}
}
