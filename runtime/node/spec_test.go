package node

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spillway/spillway/functions"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestContainerSpec(t *testing.T) {
	base := functions.Assignment{
		Epoch: 42, Attempt: 3, Device: functions.CPU,
		Task: functions.Task{
			ID: "01890000-0000-7000-8000-000000000001", Function: "transcode", Version: 7,
			Inputs: []functions.Input{{Name: "a b.wav"}, {Name: "c.srt"}},
		},
		Function: functions.Function{Spec: functions.Spec{
			Name: "transcode", Image: "ffmpeg:7", Entrypoint: []string{"/bin/ffmpeg"},
			Command: []string{"-i", "{in}", "-s", "{in.c.srt}", "{out}/{task}.webm", `{"json":{}}`},
			Env:     map[string]string{"B": "2", "A": "1", "HOME": "/work"},
			Limits:  functions.Limits{CPUs: 2.5, Memory: 2 * functions.GiB, Pids: 99, Disk: 10 * functions.GiB, Log: functions.MiB},
			Timeout: functions.Duration(90 * time.Second), Network: functions.NetworkEgress,
			CPUProfile: &functions.CPUProfile{Command: []string{"-threads", "2", "{in}"}, Timeout: functions.Duration(10 * time.Minute)},
		}},
	}
	gpu := base
	gpu.Device = functions.GPU
	for name, c := range map[string]struct {
		order   functions.Assignment
		devices []functions.GPUInfo
	}{
		"cpu": {base, nil},
		"gpu": {gpu, []functions.GPUInfo{
			{UUID: "GPU-aaaa", Memory: 80 * functions.GiB}, {UUID: "GPU-bbbb", Index: 1, Memory: 24 * functions.GiB},
		}},
		"assumed_gpu": {gpu, []functions.GPUInfo{{UUID: "assumed-3", Index: 3, Assumed: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := containerSpec(c.order, c.devices, "n1", "/data/tasks/T/3", nil, owner{65532, 65532}, time.UnixMilli(1_700_000_000_000))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "spec_"+name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
				t.Errorf("spec differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func TestFill(t *testing.T) {
	two := functions.Task{ID: "ID", Inputs: []functions.Input{{Name: "a"}, {Name: "b.txt"}}}
	for _, c := range []struct {
		args []string
		task functions.Task
		want []string
		bad  bool
	}{
		{nil, two, nil, false},
		{[]string{"{in}", "{in.b.txt}", "{out}", "{task}"}, two, []string{"/task/in/a", "/task/in/b.txt", "/task/out", "ID"}, false},
		{[]string{"{in}{in}", "{ in }", "{input}", "{}", "{{in}}"}, two, []string{"/task/in/a/task/in/a", "{ in }", "{input}", "{}", "{/task/in/a}"}, false},
		{[]string{"{in.nope}"}, two, nil, true},
		{[]string{"{in}"}, functions.Task{}, nil, true},
		// A name is data: it is not read again for placeholders.
		{[]string{"{in}"}, functions.Task{Inputs: []functions.Input{{Name: "{task}"}}}, []string{"/task/in/{task}"}, false},
	} {
		got, err := fill(c.args, c.task)
		if (err != nil) != c.bad || !c.bad && !slices.Equal(got, c.want) {
			t.Errorf("fill(%q) = %q, %v; want %q", c.args, got, err, c.want)
		}
	}
}
