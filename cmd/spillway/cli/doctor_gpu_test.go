package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

// gpuHost runs doctor --gpu on a machine with these checks, and no gateway.
func gpuHost(t *testing.T, checks []Check, args ...string) (got said, image string, released bool) {
	t.Helper()
	got = runAs(t, App{Getenv: func(string) string { return "" }, GPUChecks: func(named string) ([]Check, func(), error) {
		image = named
		return checks, func() { released = true }, nil
	}}, append([]string{"doctor", "--gpu"}, args...)...)
	return got, image, released
}

func TestDoctorGPU(t *testing.T) {
	order := ""
	check := func(name string, err error) Check {
		return Check{Name: name, Run: func(context.Context) (string, error) {
			order += name
			return "found " + name, err
		}}
	}
	fixed := func(what, fix string) error { return functions.Unavailable("x", "%s", what).WithHint("%s", fix) }
	well := []Check{check("a", nil), check("b", Warned(fixed("slow", "hurry"))), check("c", Skipped(errors.New("not here")))}
	got, _, released := gpuHost(t, well)
	want := "CHECK  STATE    FOUND     FIX\na      ok       found a\nb      warning  slow      hurry\nc      skipped  not here\n"
	if (got != said{out: want}) || order != "abc" || !released {
		t.Errorf("%+v, in the order %s, released %v", got, order, released)
	}
	sick := []Check{check("a", nil), check("b", fixed("no module", "modprobe nvidia")), check("c", fixed("no GPU", "restart Docker"))}
	got, image, released := gpuHost(t, sick, "--image", "debian", "-o", "json")
	var results []result
	if err := json.Unmarshal([]byte(got.out), &results); err != nil || len(results) != 3 {
		t.Fatalf("%v: %+v", err, got)
	}
	if results[1].State != "failed" || results[1].Fix != "modprobe nvidia" || results[2].Fix != "restart Docker" || image != "debian" || !released {
		t.Errorf("%+v, image %q", results, image)
	}
	if got.code != 1 || got.err != "error: 2 of 3 checks failed\nhint: begin with \"b\": modprobe nvidia\n" {
		t.Errorf("%+v", got)
	}
	if got := runAs(t, App{Getenv: func(string) string { return "" }}, "doctor", "--image", "x"); got.code != 2 || !strings.Contains(got.err, "--gpu") {
		t.Errorf("--image alone: %+v", got)
	}
}
