package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/spillway/spillway/"

// allowed is the import policy: for each package of ours, the packages of ours
// and the outside libraries that it may import. It is a statement of policy; do
// not change it to make a build pass. A name that ends in /... allows what is
// below it too.
var allowed = map[string][]string{
	"functions":                     {},
	"functions/spec":                {"functions", "go.yaml.in/yaml/v3"},
	"functions/tasklog":             {"functions", "github.com/nats-io/..."},
	"functions/taskdb":              {"functions", "modernc.org/sqlite/..."},
	"functions/objects":             {"functions", "github.com/minio/minio-go/...", "golang.org/x/sync/..."},
	"functions/objects/embedded":    {"functions", "github.com/versity/versitygw/...", "github.com/gofiber/fiber/...", "golang.org/x/sys/...", "github.com/aws/aws-sdk-go-v2/service/s3/..."},
	"functions/objects/miniotest":   {"functions", "functions/objects"},
	"functions/objects/objectstest": {"functions", "functions/objects", "functions/objects/embedded", "functions/objects/miniotest", "github.com/aws/aws-sdk-go-v2/..."},
	"functions/shares":              {"functions"},
	"functions/webfetch":            {"functions"},
	"functions/flight":              {},
	"functions/catalog/task":        {},
	"functions/catalog/...":         {"functions/catalog/task", "functions/catalog/media", "golang.org/x/image/...", "golang.org/x/net/...", "golang.org/x/text/..."},

	"gateway/devices":    {"functions"},
	"gateway":            {"functions", "gateway/content", "gateway/devices", "gateway/intake", "github.com/gorilla/mux", "github.com/prometheus/...", "github.com/felixge/httpsnoop", "golang.org/x/sync/..."},
	"gateway/content":    {"functions", "github.com/gabriel-vasile/mimetype"},
	"gateway/intake":     {"functions", "gateway/content", "github.com/google/uuid"},
	"gateway/dashboard":  {"functions"},
	"gateway/seed":       {"functions", "gateway/content", "gateway/intake"},
	"gateway/lambda":     {"functions", "gateway/devices", "gateway/content", "gateway/intake", "github.com/gorilla/mux", "golang.org/x/sync/..."},
	"gateway/ingest":     {"functions", "gateway/content", "gateway/intake", "github.com/prometheus/...", "golang.org/x/sync/..."},
	"gateway/ingest/sqs": {"functions", "github.com/aws/aws-sdk-go-v2/..."},

	"gateway/lambda/sigv4": {},

	"gateway/ends":          {"functions", "golang.org/x/sync/..."},
	"gateway/ends/endstest": {"functions"},
	"gateway/webhooks":      {"functions", "gateway/ends", "github.com/prometheus/..."},
	"gateway/schedules":     {"functions", "gateway/content", "gateway/intake"},
	"gateway/chain":         {"functions", "gateway/content", "gateway/ends", "gateway/intake", "github.com/prometheus/..."},
	"gateway/retention":     {"functions", "gateway/intake", "github.com/prometheus/..."},

	"scheduler": {"functions", "golang.org/x/sync/..."},

	"runtime":                   {"functions"},
	"runtime/outputs":           {"runtime"},
	"runtime/runtimetest":       {"functions", "runtime", "runtime/entry/wire", "github.com/google/go-cmp/cmp"},
	"runtime/docker":            {"functions", "functions/flight", "runtime", "runtime/outputs", "github.com/docker/...", "github.com/distribution/reference", "github.com/containerd/errdefs", "github.com/opencontainers/..."},
	"runtime/docker/dockertest": {"functions", "runtime", "runtime/docker", "runtime/runtimetest"},
	"runtime/cdi":               {"runtime", "github.com/opencontainers/runtime-spec/...", "tags.cncf.io/..."},
	"runtime/cgroups":           {"functions", "runtime"},
	"runtime/ocispec":           {"functions", "runtime", "runtime/entry/wire", "github.com/moby/profiles/seccomp", "github.com/opencontainers/runtime-spec/..."},
	"runtime/oci":               {"functions", "runtime", "runtime/outputs", "runtime/cdi", "runtime/cgroups", "runtime/entry/wire", "runtime/entry/framelog", "runtime/ocispec", "github.com/opencontainers/runtime-spec/...", "golang.org/x/sys/..."},
	"runtime/containerd": {"functions", "functions/flight", "runtime", "runtime/outputs", "runtime/cdi", "runtime/cgroups", "runtime/entry", "runtime/entry/framelog", "runtime/entry/wire", "runtime/ocispec",
		"github.com/containerd/...", "github.com/distribution/reference", "github.com/opencontainers/...", "google.golang.org/grpc/..."},
	"runtime/containerd/containerdtest": {},
	"runtime/gpu":                       {"functions", "runtime/gpu/probe"},
	"runtime/gpu/probe":                 {"functions"},
	"runtime/gpu/probe/probetest":       {"functions", "runtime/gpu/probe", "runtime/buildtest"},
	"runtime/gpu/preflight":             {"functions", "runtime", "runtime/cdi", "runtime/docker", "runtime/gpu/probe"},
	"runtime/pool":                      {"functions"},
	"runtime/gpu/gpusim":                {"functions", "runtime", "runtime/gpu/probe"},
	"runtime/serve":                     {"functions", "runtime", "runtime/entry", "runtime/entry/wire"},
	"runtime/entry":                     {"functions", "runtime", "runtime/entry/wire", "golang.org/x/sys/..."},
	"runtime/buildtest":                 {},
	"runtime/entry/wire":                {},
	"runtime/entry/framelog":            {"runtime/entry/wire"},
	"runtime/entry/entrytest":           {"runtime/buildtest"},
	"runtime/entry/program":             {"runtime/entry/wire", "runtime/entry/framelog", "golang.org/x/sys/..."},
	"runtime/node":                      {"functions", "runtime", "runtime/entry", "runtime/entry/wire", "runtime/gpu", "runtime/gpu/probe", "runtime/pool", "runtime/serve", "golang.org/x/sync/...", "golang.org/x/sys/..."},

	"images":            {"functions", "images/debian", "github.com/google/go-containerregistry/...", "golang.org/x/sync/..."},
	"images/debian":     {"functions", "golang.org/x/sync/..."},
	"images/imagebuild": {"images"},

	"images/store":        {"functions", "functions/flight", "github.com/google/go-containerregistry/...", "golang.org/x/sync/...", "golang.org/x/sys/..."},
	"images/credentials":  {"functions", "github.com/google/go-containerregistry/..."},
	"images/registrytest": {"github.com/google/go-containerregistry/..."},

	"cmd/gpuprobe":             {"functions", "runtime/gpu/probe", "github.com/NVIDIA/go-nvml/..."},
	"cmd/spillway":             {"..."},
	"cmd/spillway/localimages": {"images/store", "runtime"},
	"cmd/spillway/cli":         {"functions", "github.com/spf13/cobra", "charm.land/lipgloss/...", "github.com/vbauerster/mpb/...", "go.yaml.in/yaml/v3"},

	// What runs the built program from outside may use any client library.
	"e2e/...": {"e2e/harness", "functions", "functions/objects/miniotest", "runtime/docker/dockertest", "outside"},

	// The benchmarks measure drivers by themselves too.
	"e2e/bench":         {"e2e/harness", "e2e/bench/launch", "e2e/bench/measure", "e2e/bench/queue", "e2e/bench/results", "e2e/bench/trace", "functions", "images", "runtime", "outside"},
	"e2e/bench/launch":  {"e2e/harness", "e2e/bench/measure", "functions", "images", "images/store", "cmd/spillway/localimages", "runtime", "runtime/docker", "runtime/containerd", "runtime/oci", "runtime/cgroups", "runtime/entry", "outside"},
	"e2e/bench/measure": {},
	"e2e/bench/chart":   {},
	"e2e/bench/trace":   {},
	"e2e/bench/echo":    {},
	"e2e/bench/queue":   {"e2e/harness", "e2e/bench/measure"},
	"e2e/bench/results": {"e2e/bench/chart", "e2e/bench/measure"},

	"e2e/gpu/pack": {"images", "images/debian", "github.com/google/go-containerregistry/..."},
	"e2e/gpu/run":  {"e2e/harness", "e2e/bench/measure", "functions", "runtime/gpu/probe", "go.yaml.in/yaml/v3"},
}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Standard,Imports", "../../...")
	list.Env = append(os.Environ(), "CGO_ENABLED=1") // with the one program that needs it
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	seen := map[string]bool{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		rule, key := ruleFor(name)
		if rule == nil {
			t.Errorf("%s has no row in the import table", name)
			continue
		}
		seen[key] = true
		for _, imp := range p.Imports {
			if !permitted(rule, imp) {
				t.Errorf("%s must not import %s", name, imp)
			}
		}
	}
	for key := range allowed {
		if !seen[key] {
			t.Errorf("the import table has a row for %s, which does not exist", key)
		}
	}
}

// ruleFor returns the row of a package: its own, or the nearest with /... .
func ruleFor(name string) ([]string, string) {
	if r, ok := allowed[name]; ok {
		return r, name
	}
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if r, ok := allowed[dir+"/..."]; ok {
			return r, dir + "/..."
		}
	}
	return nil, ""
}

func permitted(rule []string, imp string) bool {
	ours, isOurs := strings.CutPrefix(imp, module)
	first, _, _ := strings.Cut(imp, "/")
	if !isOurs && !strings.Contains(first, ".") {
		return true // the standard library
	}
	if !isOurs {
		ours = imp
	}
	return slices.ContainsFunc(rule, func(r string) bool {
		switch {
		case r == "...":
			return true
		case r == "outside":
			return !isOurs
		}
		if base, ok := strings.CutSuffix(r, "/..."); ok {
			return ours == base || strings.HasPrefix(ours, base+"/")
		}
		return ours == r
	})
}

// TestVocabularyIsPure makes a mistake in the table itself visible: the package
// at the bottom may name no other.
func TestVocabularyIsPure(t *testing.T) {
	if permitted(allowed["functions"], "github.com/google/uuid") || permitted(allowed["functions"], module+"runtime") {
		t.Error("functions must import the standard library only")
	}
	for _, pair := range [][2]string{{"runtime/gpu/probe", "github.com/NVIDIA/go-nvml/pkg/nvml"}, {"gateway", "scheduler"}, {"scheduler", "runtime"}, {"images", "runtime"}, {"runtime/node", "gateway"}} {
		if permitted(allowed[pair[0]], module+pair[1]) {
			t.Errorf("%s must not import %s", pair[0], pair[1])
		}
	}
}
