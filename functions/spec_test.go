package functions

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func goodSpec() Spec {
	return Spec{Name: "speech", Image: "speech:1"}.WithDefaults()
}

func TestValidateNamesTheField(t *testing.T) {
	if err := goodSpec().Validate(); err != nil {
		t.Fatal(err)
	}
	less := Duration(-1)
	for field, change := range map[string]func(*Spec){
		"name":               func(s *Spec) { s.Name = "../x" },
		"image":              func(s *Spec) { s.Image = " " },
		"contract":           func(s *Spec) { s.Contract = "grpc" },
		"device":             func(s *Spec) { s.Device = "tpu" },
		"gpu.count":          func(s *Spec) { s.GPU = &GPUNeed{Count: 65} },
		"gpu.memory":         func(s *Spec) { s.GPU = &GPUNeed{Memory: 4 * KiB} },
		"gpu.tries":          func(s *Spec) { s.GPU = &GPUNeed{Tries: 11} },
		"gpu.within":         func(s *Spec) { s.GPU = &GPUNeed{Within: Duration(25 * time.Hour)} },
		"gpu.needs[1]":       func(s *Spec) { s.GPU = &GPUNeed{Needs: []string{"nvenc", "tensor"}} },
		"gpu.min_driver":     func(s *Spec) { s.GPU = &GPUNeed{MinDriver: "r535"} },
		"gpu.min_cuda":       func(s *Spec) { s.GPU = &GPUNeed{MinCUDA: "12.x"} },
		"spill_queue":        func(s *Spec) { s.SpillQueue = -1 },
		"env":                func(s *Spec) { s.Env = map[string]string{"TASK_ID": "x"} },
		"cpu_profile.env":    func(s *Spec) { s.CPUProfile = &CPUProfile{Env: map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}} },
		"limits.memory":      func(s *Spec) { s.Limits.Memory = MiB },
		"limits.cpus":        func(s *Spec) { s.Limits.CPUs = math.NaN() },
		"limits.pids":        func(s *Spec) { s.Limits.Pids = -1 },
		"limits.disk":        func(s *Spec) { s.Limits.Disk = -1 },
		"limits.log":         func(s *Spec) { s.Limits.Log = -1 },
		"timeout":            func(s *Spec) { s.Timeout = Duration(25 * time.Hour) },
		"spill_after":        func(s *Spec) { s.SpillAfter = &less },
		"grace":              func(s *Spec) { s.Grace = Duration(2 * time.Minute) },
		"queue_timeout":      func(s *Spec) { s.QueueTimeout = Duration(time.Millisecond) },
		"warm":               func(s *Spec) { s.Warm = 1001 },
		"concurrency":        func(s *Spec) { s.Concurrency = -1 },
		"max_queue":          func(s *Spec) { s.MaxQueue = -1 },
		"priority":           func(s *Spec) { s.Priority = 101 },
		"weight":             func(s *Spec) { s.Weight = 1001 },
		"retries.max":        func(s *Spec) { s.Retries.Max = 11 },
		"retries.backoff":    func(s *Spec) { s.Retries.Backoff = -1 },
		"network":            func(s *Spec) { s.Network = "host" },
		"stdout":             func(s *Spec) { s.Stdout = "file" },
		"handles[1]":         func(s *Spec) { s.Handles = []ContentClass{Audio, "web"} },
		"triggers[0].bucket": func(s *Spec) { s.Triggers = []Trigger{{}} },
		"triggers[1].bucket": func(s *Spec) { s.Triggers = []Trigger{{Bucket: "inbox"}, {Bucket: "No_Bucket"}} },
		"triggers[0].prefix": func(s *Spec) { s.Triggers = []Trigger{{Bucket: "uploads", Prefix: "in/0190"}} },
		"triggers[1].prefix": func(s *Spec) { s.Triggers = []Trigger{{Bucket: "uploads"}, {Bucket: "uploads", Prefix: "ev/"}} },
		"triggers[0].device": func(s *Spec) { s.Triggers = []Trigger{{Bucket: "inbox", Device: "tpu"}} },
		"triggers[1].content_types": func(s *Spec) {
			s.Triggers = []Trigger{{Bucket: "inbox"}, {Bucket: "inbox", ContentTypes: []string{"audio"}}}
		},
		"on_success":             func(s *Spec) { s.OnSuccess = make([]Destination, mostDestinations+1) },
		"on_success[0].function": func(s *Spec) { s.OnSuccess = []Destination{{Prefix: "x/"}} },
		"on_success[1].function": func(s *Spec) { s.OnSuccess = []Destination{{Function: "b"}, {Function: "../b"}} },
		"on_success[0].bucket":   func(s *Spec) { s.OnSuccess = []Destination{{Function: "b", Bucket: "ends"}} },
		"on_failure[0].bucket":   func(s *Spec) { s.OnFailure = []Destination{{Bucket: "No_Bucket"}} },
		"on_failure[1].bucket":   func(s *Spec) { s.OnFailure = []Destination{{Bucket: "ends"}, {Bucket: "results"}} },
		"on_failure[1]":          func(s *Spec) { s.OnFailure = []Destination{{Bucket: "ends"}, {Bucket: "ends"}} },
		"on_failure[0].prefix":   func(s *Spec) { s.OnFailure = []Destination{{Bucket: "uploads", Prefix: "in/x"}} },
		"on_success[0].prefix":   func(s *Spec) { s.OnSuccess = []Destination{{Function: "b", Prefix: "x/"}} },
		"on_success[1].prefix":   func(s *Spec) { s.OnSuccess = []Destination{{Bucket: "ends"}, {Bucket: "ends", Prefix: "a\nb"}} },

		"schedules":             func(s *Spec) { s.Schedules = make([]Schedule, mostSchedules+1) },
		"schedules[0].cron":     func(s *Spec) { s.Schedules = []Schedule{{Timezone: "UTC"}} },
		"schedules[1].rate":     func(s *Spec) { s.Schedules = []Schedule{{Rate: "1 hour"}, {Rate: "soon"}} },
		"schedules[0].timezone": func(s *Spec) { s.Schedules = []Schedule{{Cron: "0 0 * * *", Timezone: "Mars"}} },
		"schedules[0].event":    func(s *Spec) { s.Schedules = []Schedule{{Rate: "1 hour", Event: JSON("{")}} },
		"schedules[1]":          func(s *Spec) { s.Schedules = []Schedule{{Rate: "1 hour"}, {Rate: "1 hour"}} },

		"cpu_profile.memory":  func(s *Spec) { s.CPUProfile = &CPUProfile{Memory: 1} },
		"cpu_profile.cpus":    func(s *Spec) { s.CPUProfile = &CPUProfile{CPUs: -1} },
		"cpu_profile.timeout": func(s *Spec) { s.CPUProfile = &CPUProfile{Timeout: Duration(25 * time.Hour)} },
	} {
		s := goodSpec()
		change(&s)
		err := s.Validate()
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrInvalid) || e.Code != "bad_spec" || e.Field != field || !strings.HasPrefix(e.Message, field+": ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestReservedEnv(t *testing.T) {
	for _, name := range []string{"TASK_ID", "TASK_", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "", "A=B", "A\x00"} {
		s := goodSpec()
		s.Env = map[string]string{"PATH": "/bin", name: "x"}
		if s.Validate() == nil {
			t.Errorf("env %q is allowed", name)
		}
		s.Env, s.CPUProfile = nil, &CPUProfile{Env: map[string]string{name: "x"}}
		if s.Validate() == nil {
			t.Errorf("cpu_profile.env %q is allowed", name)
		}
	}
	s := goodSpec()
	s.Env = map[string]string{"TASKS": "1", "CUDA_LAUNCH_BLOCKING": "1", "NVIDIA": ""}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	s.Env = map[string]string{"A": "x\x00y"}
	if s.Validate() == nil {
		t.Error("a NUL in a value is allowed")
	}
}

func TestOn(t *testing.T) {
	s := goodSpec()
	s.Env = map[string]string{"MODEL": "large", "LANG": "C"}
	s.Command, s.Entrypoint = []string{"run", "--half"}, []string{"/gpu"}
	if got := s.On(CPU); got.Command[1] != "--half" || got.Image != "speech:1" {
		t.Errorf("without a profile: %+v", got)
	}
	s.CPUProfile = &CPUProfile{
		Image: "speech:cpu", Entrypoint: []string{"/cpu"}, Command: []string{"run"}, Env: map[string]string{"MODEL": "small"},
		Memory: 2 * GiB, CPUs: 3.3, Timeout: Duration(time.Hour),
	}
	got := s.On(CPU)
	if got.Image != "speech:cpu" || got.Entrypoint[0] != "/cpu" || len(got.Command) != 1 || got.Env["MODEL"] != "small" || got.Env["LANG"] != "C" || got.Timeout.Std() != time.Hour {
		t.Errorf("on the CPU: %+v", got)
	}
	if s.Env["MODEL"] != "large" || s.On(GPU).Image != "speech:1" {
		t.Error("the profile leaked to the GPU")
	}
	if n := s.Needs(CPU); n != (Resources{MilliCPU: 3300, Memory: 2 * GiB, Tasks: 1}) {
		t.Errorf("needs on the CPU: %+v", n)
	}
	if n := s.Needs(GPU); n != (Resources{MilliCPU: 1000, Memory: 512 * MiB, Tasks: 1}) {
		t.Errorf("needs on a GPU: %+v", n)
	}
	for cpus, want := range map[float64]int64{0.57: 570, 0.29: 290, 1.1: 1100, 0.01: 10} {
		s := goodSpec()
		s.Limits.CPUs = cpus
		if got := s.Needs(GPU).MilliCPU; got != want {
			t.Errorf("%v cores: got %d thousandths, want %d", cpus, got, want)
		}
	}
	for count, want := range map[int]int{0: 1, 1: 1, 4: 4} {
		if got := (Spec{GPU: &GPUNeed{Count: count}}).GPUCount(); got != want || (Spec{}).GPUCount() != 1 {
			t.Errorf("count %d: got %d", count, got)
		}
	}
}

func TestDefaultsKeepWhatIsSet(t *testing.T) {
	zero := Duration(0)
	s := Spec{Name: "f", Image: "i", SpillAfter: &zero, Timeout: Duration(time.Second), Device: Never, Weight: 5}.WithDefaults()
	if *s.SpillAfter != 0 || s.Timeout.Std() != time.Second || s.Device != Never || s.Weight != 5 {
		t.Errorf("defaults overwrote: %+v", s)
	}
	if again := s.WithDefaults(); again.Limits != s.Limits || again.Timeout != s.Timeout {
		t.Error("defaults are not stable")
	}
}

func TestTriggerMatches(t *testing.T) {
	all := Trigger{Bucket: "in"}
	wav := Trigger{Bucket: "in", Prefix: "calls/", Suffix: ".wav", ContentTypes: []string{"Audio/*", "application/ogg"}}
	for _, c := range []struct {
		t                 Trigger
		bucket, key, kind string
		want              bool
	}{
		{all, "in", "a", "", true},
		{all, "out", "a", "", false},
		{wav, "in", "calls/1.wav", "audio/x-wav", true},
		{wav, "in", "calls/1.wav", "AUDIO/wav; rate=8000", true},
		{wav, "in", "calls/1.wav", "application/ogg", true},
		{wav, "in", "calls/1.wav", "video/mp4", false},
		{wav, "in", "calls/1.wav", "", false},
		{wav, "in", "calls/1.mp3", "audio/mpeg", false},
		{wav, "in", "x/calls/1.wav", "audio/wav", false},
		{wav, "in", "calls.wav", "audio/wav", false},
		{Trigger{Bucket: "in", ContentTypes: []string{"["}}, "in", "a", "audio/wav", false},
	} {
		if got := c.t.Matches(c.bucket, c.key, c.kind); got != c.want {
			t.Errorf("%+v and %s/%s %q: got %v", c.t, c.bucket, c.key, c.kind, got)
		}
	}
}
