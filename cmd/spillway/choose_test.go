package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

// pretended is a runtime that answers, or does not, or cannot even be opened.
type pretended struct {
	name   string
	down   bool
	broken error
}

// bench makes candidates, and counts what was opened and let go of.
type bench struct{ opened, released []string }

func (b *bench) candidate(p pretended) candidate {
	return candidate{name: p.name, what: p.name, fix: "mend " + p.name, open: func(context.Context) (runtime.Driver, func(), error) {
		if p.broken != nil {
			return nil, nil, p.broken
		}
		b.opened = append(b.opened, p.name)
		f := runtimetest.NewFake()
		f.SetDown(p.down)
		return f, func() { b.released = append(b.released, p.name) }, nil
	}}
}

func TestChooseRuntime(t *testing.T) {
	broken := errors.New("no crun and no runc in PATH")
	for _, c := range []struct {
		name     string
		have     []pretended
		chosen   string // the last one opened and kept; empty = none
		refused  []string
		reason   string
		released []string
	}{
		{"the first works", []pretended{{name: "docker"}, {name: "oci"}}, "docker", nil, "the first of docker, oci that works here: in memory", nil},
		{"the first is away", []pretended{{name: "docker", down: true}, {name: "containerd"}, {name: "oci"}}, "containerd",
			[]string{"docker: the container engine does not answer"}, "(docker: the container engine does not answer)", []string{"docker"}},
		{"only the last is there", []pretended{{name: "docker", down: true}, {name: "containerd", down: true}, {name: "oci"}}, "oci",
			[]string{"docker: the container engine does not answer", "containerd: the container engine does not answer"}, "in memory (docker: ", []string{"docker", "containerd"}},
		{"one cannot be opened", []pretended{{name: "oci", broken: broken}, {name: "docker"}}, "docker", []string{"oci: " + broken.Error()}, "in memory", nil},
		{"nothing works", []pretended{{name: "docker", down: true}, {name: "oci", broken: broken}}, "",
			[]string{"docker: the container engine does not answer", "oci: " + broken.Error()}, "none of docker, oci works here", []string{"docker"}},
		{"there is nothing", nil, "", nil, "none of", nil},
	} {
		var b bench
		var all []candidate
		for _, p := range c.have {
			all = append(all, b.candidate(p))
		}
		got := chooseRuntime(t.Context(), all)
		var refused []string
		for _, r := range got.refused {
			refused = append(refused, r.String())
			if r.fix != "mend "+r.name {
				t.Errorf("%s: the refusal of %s names no fix", c.name, r.name)
			}
		}
		if (got.driver != nil) != (c.chosen != "") || (c.chosen != "" && b.opened[len(b.opened)-1] != c.chosen) {
			t.Errorf("%s: opened %v, chosen %v", c.name, b.opened, got.driver)
		}
		if !slices.Equal(refused, c.refused) || !strings.Contains(got.reason, c.reason) {
			t.Errorf("%s: refused %q, because %q", c.name, refused, got.reason)
		}
		if !slices.Equal(b.released, c.released) {
			t.Errorf("%s: let go of %v, want %v", c.name, b.released, c.released)
		}
	}
}

// A machine on which nothing works yet still has a node, which waits.
func TestOpenDriverWaitsForAnEngine(t *testing.T) {
	cfg := Default()
	cfg.Data = t.TempDir()
	cfg.Node.DockerHost = "unix://" + filepath.Join(cfg.Data, "none.sock")
	cfg.Node.Runtime = runtimeDocker
	log := slog.New(slog.DiscardHandler)
	got, err := openDriver(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer got.release()
	if _, err := got.driver.Probe(t.Context()); err == nil || got.driver.Name() != runtimeDocker {
		t.Errorf("%s answers: %v", got.driver.Name(), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	cfg.Node.Runtime = runtimeAuto
	if got, err := openDriver(ended, cfg, log); !errors.Is(err, context.Canceled) {
		t.Errorf("a choice that was broken off: %+v, %v", got, err)
	}
}
