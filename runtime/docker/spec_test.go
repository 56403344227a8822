package docker

import (
	"bytes"
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/runtimetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTranslate(t *testing.T) {
	full := runtime.Spec{
		Name: "spw-1", Image: "ffmpeg:1", Entrypoint: []string{"/bin/run"}, Command: []string{"-i", "a b"},
		Env: []string{"TASK_ID=1", "NVIDIA_VISIBLE_DEVICES=all", "CUDA_VISIBLE_DEVICES=0", "CUDA_LAUNCH_BLOCKING=1"}, User: "1000:1000",
		Mounts:   []runtime.Mount{{Source: "/srv/in", Target: "/task/in", ReadOnly: true}, {Source: "/srv/out", Target: "/task/out"}},
		Tmpfs:    []runtime.Tmpfs{{Target: "/tmp", Size: 100 * functions.MiB}},
		MilliCPU: 1500, Memory: functions.GiB, Pids: 99, FileSize: 2 * functions.GiB, LogSize: functions.MiB,
		Network: functions.NetworkEgress, Labels: map[string]string{runtime.LabelTask: "1"},
	}
	gpu := full
	gpu.GPUs = []string{"GPU-0", "GPU-1"}
	for name, spec := range map[string]runtime.Spec{"least": {Image: "a"}, "cpu": full, "gpu": gpu} {
		config, host := translate(spec, "")
		runtimetest.Golden(t, filepath.Join("testdata", name+".json"), struct {
			Config *container.Config
			Host   *container.HostConfig
		}{config, host}, *update)
	}
}

// No spec whatever lifts a wall of the sandbox.
func TestTranslateIsAlwaysHardened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := runtime.Spec{
			Image:    "a",
			Env:      rapid.SliceOf(rapid.StringMatching(`(NVIDIA_|CUDA_|A)[A-Z_]{0,16}=[a-z]{0,4}`)).Draw(t, "env"),
			User:     rapid.SampledFrom([]string{"", "1:1"}).Draw(t, "user"),
			GPUs:     rapid.SliceOfN(rapid.StringMatching(`GPU-[0-9]`), 0, 3).Draw(t, "gpus"),
			Memory:   functions.Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "memory")),
			MilliCPU: rapid.Int64Range(0, 64000).Draw(t, "cpu"),
			Pids:     rapid.Int64Range(0, 9999).Draw(t, "pids"),
			LogSize:  functions.Bytes(rapid.Int64Range(0, 1<<30).Draw(t, "log")),
		}
		before := slices.Clone(spec.Env)
		config, host := translate(spec, "")
		switch {
		case host.NetworkMode != "none", !host.ReadonlyRootfs, !slices.Equal(host.CapDrop, []string{"ALL"}), len(host.CapAdd) > 0,
			!slices.Contains(host.SecurityOpt, "no-new-privileges"), !*host.Init, host.AutoRemove, host.Privileged:
			t.Fatalf("a wall is missing: %+v", host)
		case config.User == "":
			t.Fatal("runs as the image's user, which may be root")
		case host.Memory <= 0, host.MemorySwap != host.Memory, *host.PidsLimit <= 0, host.NanoCPUs <= 0, host.LogConfig.Config["max-size"] == "0k":
			t.Fatalf("a limit is missing: %+v", host)
		case !slices.Equal(before, spec.Env):
			t.Fatal("the caller's spec was changed")
		}
		visible := slices.DeleteFunc(slices.Clone(config.Env), func(kv string) bool {
			return !strings.HasPrefix(kv, "NVIDIA_") && !strings.HasPrefix(kv, "CUDA_VISIBLE_DEVICES=")
		})
		if len(spec.GPUs) == 0 {
			if !slices.Equal(visible, []string{"NVIDIA_VISIBLE_DEVICES=void", "CUDA_VISIBLE_DEVICES="}) || len(host.DeviceRequests) > 0 {
				t.Fatalf("a CPU container sees %q %+v", visible, host.DeviceRequests)
			}
			return
		}
		if r := host.DeviceRequests; len(visible) > 0 || len(r) != 1 || r[0].Count != 0 || !slices.Equal(r[0].DeviceIDs, spec.GPUs) {
			t.Fatalf("a GPU container sees %q %+v", visible, r)
		}
	})
}

// However often a stream breaks and is replayed, each byte is passed on once.
func TestTapPassesEachByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "stream")
		var got bytes.Buffer
		p := &tap{to: &got}
		for _, end := range append(rapid.SliceOfN(rapid.IntRange(0, len(stream)), 0, 5).Draw(t, "breaks"), len(stream)) {
			p.rewind()
			for at := 0; at < end; {
				n := rapid.IntRange(1, end-at).Draw(t, "write")
				if wrote, err := p.Write(stream[at : at+n]); wrote != n || err != nil {
					t.Fatal(wrote, err)
				}
				at += n
			}
		}
		if !bytes.Equal(got.Bytes(), stream) {
			t.Fatalf("got %x, want %x", got.Bytes(), stream)
		}
	})
}

func TestUsageOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		stats container.MemoryStats
		want  runtime.Usage
	}{
		{"cgroup v1", container.MemoryStats{Usage: 100, MaxUsage: 150, Stats: map[string]uint64{"total_inactive_file": 30, "inactive_file": 1}}, runtime.Usage{Memory: 70, PeakMemory: 150}},
		{"cgroup v2", container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 40}}, runtime.Usage{Memory: 60}},
		{"more cache than use", container.MemoryStats{Usage: 10, Stats: map[string]uint64{"inactive_file": 40}}, runtime.Usage{}},
		{"exited", container.MemoryStats{}, runtime.Usage{}},
	} {
		if got := usageOf(c.stats); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
