package main

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// parse loads a configuration as a command does.
func parse(t *testing.T, environ map[string]string, args ...string) (Config, error) {
	t.Helper()
	cfg := Default()
	f := pflag.NewFlagSet("up", pflag.ContinueOnError)
	cfg.bind(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	err := cfg.load(f, environ)
	return cfg, err
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:1\nreconcile: 3s\nnode: {assume_gpu: 1, max_tasks: 5}\nretention: {uploads: 1h, results: 2h, logs: 3h}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := parse(t, map[string]string{"SPILLWAY_RECONCILE": "4s", "SPILLWAY_NODE_MAX_TASKS": "6", "SPILLWAY_RETENTION_RESULTS": "0"}, "--config", file, "--max-tasks", "7", "--keep-logs", "5h")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:1" || cfg.Node.AssumeGPU != 1 {
		t.Errorf("the file does not win over the defaults: %+v", cfg)
	}
	if cfg.Reconcile != 4*time.Second {
		t.Errorf("reconcile %s: the environment does not win over the file", cfg.Reconcile)
	}
	if cfg.Node.MaxTasks != 7 {
		t.Errorf("max tasks %d: the flag does not win over the environment", cfg.Node.MaxTasks)
	}
	if r := cfg.Retention; r.Uploads != time.Hour || r.Results != 0 || r.Logs != 5*time.Hour || r.Grace != Default().Retention.Grace {
		t.Errorf("retention %+v: each source has one limit to set", r)
	}
	if !filepath.IsAbs(cfg.Data) {
		t.Errorf("data %q is not absolute", cfg.Data)
	}
}

// A list is replaced as a whole by what has precedence.
func TestListsInTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("store: {webhook_arns: [a, b]}\ningest: {sqs_urls: ['http://q/1'], max_depth: 3}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environ map[string]string
		args    []string
		arns    string
	}{
		{nil, nil, "a b"},
		{map[string]string{"SPILLWAY_STORE_WEBHOOK_ARN": "c,d"}, nil, "c d"},
		{map[string]string{"SPILLWAY_STORE_WEBHOOK_ARN": "c,d"}, []string{"--store-webhook-arn", "e", "--store-webhook-arn=f"}, "e f"},
		{nil, []string{"--store-webhook-arn", "e,f"}, "e f"},
	} {
		cfg, err := parse(t, c.environ, append(c.args, "--config", file)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.Store.WebhookARNs, " "); got != c.arns {
			t.Errorf("%v %v: targets %q, want %q", c.environ, c.args, got, c.arns)
		}
		if len(cfg.Ingest.SQSURLs) != 1 || cfg.Ingest.MaxDepth != 3 || cfg.Ingest.Overlap != 10*time.Minute {
			t.Errorf("ingest %+v", cfg.Ingest)
		}
	}
}

func TestSampleConfigurationParses(t *testing.T) {
	if _, err := parse(t, nil, "--config", "../../deploy/spillway.yaml"); err != nil {
		t.Fatal(err)
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:1\nlisten_to: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--config", file}, "line 2"},
		{[]string{"--config", file + ".missing"}, "does not exist"},
		{[]string{"--no-auth", "--listen", "0.0.0.0:8080"}, "reachable from other machines"},
		{[]string{"--no-auth", "--listen", ":8080"}, "reachable from other machines"},
		{[]string{"--listen", "nonsense"}, "host:port"},
		{[]string{"--node-id", "a/b"}, "node-id"},
		{[]string{"--runtime", "podman"}, "none of auto, docker"},
		{[]string{"--assume-gpu", "-1"}, "out of range"},
		{[]string{"--assume-gpu", "1", "--gpu-probe", "/usr/bin/gpuprobe"}, "drop one of them"},
		{[]string{"--max-per-gpu", "0"}, "out of range 1 to 64"},
		{[]string{"--memory", "lots"}, "memory"},
		{[]string{"--cache", "plenty"}, "cache"},
		{[]string{"--image-budget", "plenty"}, "image-budget"},
		{[]string{"--registry-auth", file + ".missing"}, "registry credentials"},
		{[]string{"--registry-auth", file}, "registry credentials"},
		{[]string{"--warm-memory", "some"}, "warm-memory"},
		{[]string{"--max-tasks", "0"}, "under 1"},
		{[]string{"--ingest-max-depth", "0"}, "out of range 1 to 1000"},
		{[]string{"--keep-logs", "-1h"}, "for ever"},
		{[]string{"--lambda-queue-wait", "0s"}, "out of range 1s to 1h"},
		{[]string{"--share", "media=relative"}, "not an absolute path"},
		{[]string{"--share", "a/b=/mnt"}, "not the name of a shared folder"},
		{[]string{"--url-allow", "10.0.0.0/99"}, "10.0.0.0/99"},
		{[]string{"--url-max", "plenty"}, "url-max"},
		{[]string{"--store-endpoint", "http://minio:9000"}, "SPILLWAY_STORE_SECRET_KEY"},
		{[]string{"--simulate-gpu", "many"}, "how many devices of which size"},
		{[]string{"--simulate-gpu", "2x80GiB", "--assume-gpu", "1"}, "not both"},
		{[]string{"--simulate-gpu", "2x80GiB", "--fail", "oom", "--fail", "fire"}, "no kind of fault"},
		{[]string{"--simulate-gpu", "2x80GiB", "--fail", "oom@2"}, "there are 2 devices"},
		{[]string{"--simulate-gpu", "2x80GiB", "--gpu-probe", "/usr/bin/gpuprobe"}, "reads real GPUs"},
		{[]string{"--fail", "oom"}, "only simulated GPUs"},
		{[]string{"--fail-file", file}, "only simulated GPUs"},
	} {
		_, err := parse(t, nil, c.args...)
		if !errors.Is(err, functions.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: error %v, want one that says %q", c.args, err, c.says)
		}
	}
}

func TestTheGPUProbeIsAWordOrAPath(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "auto"},
		{[]string{"--gpu-probe", "off"}, "off"},
		{[]string{"--gpu-probe", ""}, "auto"},
		{[]string{"--gpu-probe", "/opt/gpuprobe"}, "/opt/gpuprobe"},
		{[]string{"--assume-gpu", "1", "--gpu-probe", "off"}, "off"},
	} {
		if cfg, err := parse(t, nil, c.args...); err != nil || cfg.Node.GPUProbe != c.want {
			t.Errorf("%v: %q, %v, want %q", c.args, cfg.Node.GPUProbe, err, c.want)
		}
	}
	if cfg, err := parse(t, map[string]string{"SPILLWAY_NODE_GPU_PROBE": "bin/gpuprobe", "SPILLWAY_NODE_MAX_PER_GPU": "2"}); err != nil || !filepath.IsAbs(cfg.Node.GPUProbe) || cfg.Node.MaxPerGPU != 2 {
		t.Errorf("from the environment: %+v, %v", cfg.Node, err)
	}
}

func TestPlacesOfInputsAdd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("inputs: {shares: {media: /mnt/a, nfs: /mnt/b}, url_allow: [10.0.0.0/8]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := parse(t, nil, "--config", file, "--share", "media=/mnt/c", "--share", "x=/mnt/d", "--url-allow", "files.internal", "--url-allow", "::1")
	if err != nil {
		t.Fatal(err)
	}
	if want := (folderFlag{"media": "/mnt/c", "nfs": "/mnt/b", "x": "/mnt/d"}); !maps.Equal(want, cfg.Inputs.Shares) {
		t.Errorf("shares %v, want %v", cfg.Inputs.Shares, want)
	}
	if want := []string{"10.0.0.0/8", "files.internal", "::1"}; !slices.Equal(cfg.Inputs.URLAllow, want) {
		t.Errorf("allowed %v, want %v", cfg.Inputs.URLAllow, want)
	}
	cfg, err = parse(t, map[string]string{"SPILLWAY_INPUTS_SHARES": "media=/mnt/a,nfs=/mnt/b", "SPILLWAY_INPUTS_URL_ALLOW": "::1,10.0.0.1", "SPILLWAY_INPUTS_URL_MAX": "1GiB"})
	if err != nil || len(cfg.Inputs.Shares) != 2 || cfg.Inputs.Shares["nfs"] != "/mnt/b" || len(cfg.Inputs.URLAllow) != 2 || cfg.Inputs.URLMax != "1GiB" {
		t.Errorf("from the environment: %+v, %v", cfg.Inputs, err)
	}
}

func TestSimulatedGPUsAreConfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("node: {id: n1, simulate_gpu: '1x24GiB:L4', fail: [oom, 'device:first=2@0'], fail_file: faults, fail_seed: 7}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := parse(t, nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if n := cfg.Node; len(n.Fail) != 2 || !filepath.IsAbs(n.FailFile) || n.FailSeed != 7 {
		t.Errorf("faults of the file: %q %q %d", n.Fail, n.FailFile, n.FailSeed)
	}
	cfg, err = parse(t, map[string]string{"SPILLWAY_NODE_FAIL": "lost,hook"}, "--config", file, "--simulate-gpu", "1x24GiB:L4,2x80GiB")
	if err != nil || !slices.Equal(cfg.Node.Fail, []string{"lost", "hook"}) {
		t.Errorf("faults of the environment: %q, %v", cfg.Node.Fail, err)
	}
	host, err := simulatedGPUs(cfg.Node, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	read, err := host.Now(t.Context())
	if devices := read.Devices; err != nil || len(devices) != 3 || devices[0].UUID != "SIM-n1-0" || devices[0].Model != "L4" || devices[2].Total != 80*functions.GiB {
		t.Errorf("devices %+v, %v", devices, err)
	}
	if host, err := simulatedGPUs(Default().Node, slog.New(slog.DiscardHandler)); host != nil || err != nil {
		t.Errorf("unasked: %v, %v", host, err)
	}
}

func TestCacheSize(t *testing.T) {
	var disk unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	tenth := functions.Bytes(disk.Blocks) * functions.Bytes(disk.Bsize) / 10
	for set, want := range map[string]functions.Bytes{"": min(10*functions.GiB, tenth), "0": 0, "3MiB": 3 * functions.MiB, "1000GiB": 1000 * functions.GiB} {
		cfg, err := parse(t, map[string]string{"SPILLWAY_NODE_CACHE": set}, "--data", dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cacheSize(cfg); err != nil || got != want {
			t.Errorf("cache %q is %s, %v; want %s", set, got, err, want)
		}
	}
}

func TestImageBudget(t *testing.T) {
	var disk unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	fifth := functions.Bytes(disk.Blocks) * functions.Bytes(disk.Bsize) / 5
	for set, want := range map[string]functions.Bytes{"": min(50*functions.GiB, fifth), "0": 0, "3MiB": 3 * functions.MiB} {
		cfg, err := parse(t, map[string]string{"SPILLWAY_NODE_IMAGE_BUDGET": set}, "--data", dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := imageBudget(cfg); err != nil || got != want {
			t.Errorf("image budget %q is %s, %v; want %s", set, got, err, want)
		}
	}
}

// The file that the environment names is what a driver asks.
func TestRegistryCredentialsAreConfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths": {"reg.test": {"username": "u", "password": "p"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := parse(t, map[string]string{"SPILLWAY_NODE_REGISTRY_AUTH": file})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := registryKeys(cfg.Node)
	if err != nil {
		t.Fatal(err)
	}
	if user, secret, ok, err := keys.Lookup("reg.test"); user != "u" || secret != "p" || !ok || err != nil {
		t.Errorf("credentials are %q %q %v %v", user, secret, ok, err)
	}
}

func TestSecretsAreKept(t *testing.T) {
	dir := t.TempDir()
	a, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadSecrets(dir)
	if err != nil || a != b {
		t.Errorf("secrets changed between starts (err %v)", err)
	}
	st, err := os.Stat(filepath.Join(dir, "secrets.json"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secrets are readable by others: %v %v", st.Mode(), err)
	}
}

func TestDataFolderHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	release, err := openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openData(dir); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("a second process got the folder: %v", err)
	}
	release()
	again, err := openData(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
}
