package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/images/registrytest"
)

// registry: registry USER PASSWORD starts an image registry, writes its
// credentials to auth.json, and sets REGISTRY to its address and IMAGE to an image
// there, which no engine has when the script ends.
func (s scripts) registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: registry USER PASSWORD")
	}
	r := registrytest.New(s.t, registrytest.Config{Username: args[0], Password: args[1]})
	layer, err := random.Layer(20_000, types.DockerLayer)
	ts.Check(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	name := r.Push(s.t, "spillway-test-script:1", img)
	ts.Setenv("REGISTRY", r.Addr)
	ts.Check(os.WriteFile(ts.MkAbs("auth.json"), fmt.Appendf(nil, `{"auths": {%q: {"username": %q, "password": %q}}}`, r.Addr, args[0], args[1]), 0o600))
	ts.Setenv("IMAGE", name)
	ts.Defer(func() {
		out, err := exec.Command("docker", "image", "rm", name).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "No such image") {
			ts.Logf("remove the test image: %s", out)
		}
	})
}
