package functions

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Contract is how a container gets its event and gives its result.
type Contract string

// The contracts.
const (
	TaskContract   Contract = "task"   // one container per task; files, stdin and the exit code
	HTTPContract   Contract = "http"   // the image is a server on $PORT; the event is the body of a POST
	LambdaContract Contract = "lambda" // the image speaks AWS Lambda's Runtime API
)

// Serves reports whether a container of the contract may serve one invocation
// after another.
func (c Contract) Serves() bool { return c == HTTPContract || c == LambdaContract }

// Spec is what a user writes to deploy a function. Its JSON and YAML keys are
// the same; package spec reads the YAML form.
type Spec struct {
	Name        Name              `json:"name" yaml:"name"`
	Description string            `json:"description,omitempty" yaml:"description,omitempty"`
	Image       string            `json:"image" yaml:"image"`
	Contract    Contract          `json:"contract,omitempty" yaml:"contract,omitempty"`
	Entrypoint  []string          `json:"entrypoint,omitempty" yaml:"entrypoint,omitempty"` // overrides the image's
	Command     []string          `json:"command,omitempty" yaml:"command,omitempty"`       // overrides the image's; may hold {in} {in.NAME} {out} {task}
	Env         map[string]string `json:"env,omitempty" yaml:"env,omitempty"`

	Warm  Warm      `json:"warm,omitempty" yaml:"warm,omitempty"`   // containers that wait started, per node; see Warm
	Reuse Reuse     `json:"reuse,omitempty" yaml:"reuse,omitempty"` // invocations per container; http and lambda only
	HTTP  *HTTPSpec `json:"http,omitempty" yaml:"http,omitempty"`   // http only

	Device     Policy      `json:"device,omitempty" yaml:"device,omitempty"`
	GPU        *GPUNeed    `json:"gpu,omitempty" yaml:"gpu,omitempty"`
	CPUProfile *CPUProfile `json:"cpu_profile,omitempty" yaml:"cpu_profile,omitempty"`
	SpillAfter *Duration   `json:"spill_after,omitempty" yaml:"spill_after,omitempty"` // wait for a busy GPU at most this long
	SpillQueue int         `json:"spill_queue,omitempty" yaml:"spill_queue,omitempty"` // with more tasks of the function than this waiting for a GPU, those beyond go to the CPU; 0 = no limit

	Limits       Limits         `json:"limits,omitzero" yaml:"limits,omitempty"`
	Timeout      Duration       `json:"timeout,omitempty" yaml:"timeout,omitempty"`             // of one run
	Grace        Duration       `json:"grace,omitempty" yaml:"grace,omitempty"`                 // SIGTERM to SIGKILL
	QueueTimeout Duration       `json:"queue_timeout,omitempty" yaml:"queue_timeout,omitempty"` // accepted to first launch
	Concurrency  int            `json:"concurrency,omitempty" yaml:"concurrency,omitempty"`     // running tasks at once; 0 = no cap
	MaxQueue     int            `json:"max_queue,omitempty" yaml:"max_queue,omitempty"`         // waiting tasks; 0 = no limit
	Priority     int            `json:"priority,omitempty" yaml:"priority,omitempty"`           // higher goes first, -100 to 100
	Weight       int            `json:"weight,omitempty" yaml:"weight,omitempty"`               // share among functions of one priority
	Retries      Retries        `json:"retries,omitzero" yaml:"retries,omitempty"`
	Network      Network        `json:"network,omitempty" yaml:"network,omitempty"`
	Stdout       Stdout         `json:"stdout,omitempty" yaml:"stdout,omitempty"`
	KeepFailed   bool           `json:"keep_failed_outputs,omitempty" yaml:"keep_failed_outputs,omitempty"`
	Handles      []ContentClass `json:"handles,omitempty" yaml:"handles,omitempty"` // classes it serves on the ingest routes
	Triggers     []Trigger      `json:"triggers,omitempty" yaml:"triggers,omitempty"`
	OnSuccess    []Destination  `json:"on_success,omitempty" yaml:"on_success,omitempty"` // where the record of a success goes
	OnFailure    []Destination  `json:"on_failure,omitempty" yaml:"on_failure,omitempty"` // of a failure, a timeout, or an expiry
	Schedules    []Schedule     `json:"schedules,omitempty" yaml:"schedules,omitempty"`   // start it at their times
}

// HTTPSpec says how the server of an http function is reached.
type HTTPSpec struct {
	Port        int    `json:"port,omitempty" yaml:"port,omitempty"`               // that $PORT names; 8080
	Path        string `json:"path,omitempty" yaml:"path,omitempty"`               // of an invocation; /
	Health      string `json:"health,omitempty" yaml:"health,omitempty"`           // GET answers 2xx when ready; empty = it accepts connections
	Concurrency int    `json:"concurrency,omitempty" yaml:"concurrency,omitempty"` // invocations at once in one container; 1
}

// GPUNeed is what a GPU attempt needs. A function that declares its memory shares
// devices with others; one that does not has them alone.
type GPUNeed struct {
	Count     int      `json:"count,omitempty" yaml:"count,omitempty"`           // devices; 0 means 1
	All       bool     `json:"all,omitempty" yaml:"all,omitempty"`               // every GPU of the node, alone; not with count
	Memory    Bytes    `json:"memory,omitempty" yaml:"memory,omitempty"`         // taken of each; 0 = not known, so alone on it
	Exclusive bool     `json:"exclusive,omitempty" yaml:"exclusive,omitempty"`   // alone on it, although memory is declared
	Needs     []string `json:"needs,omitempty" yaml:"needs,omitempty"`           // beside CUDA: nvenc, nvdec
	MinDriver string   `json:"min_driver,omitempty" yaml:"min_driver,omitempty"` // 535.104; what the image says counts too
	MinCUDA   string   `json:"min_cuda,omitempty" yaml:"min_cuda,omitempty"`     // 12.2; what the image says counts too
	Tries     int      `json:"tries,omitempty" yaml:"tries,omitempty"`           // attempts that a GPU may fail; 0 means 3 where a GPU is required, else 2
	Within    Duration `json:"within,omitempty" yaml:"within,omitempty"`         // since the first of them, no further one begins on a GPU; 0 means 30m where one is required, else 5m
}

// CPUProfile is what changes when the function runs without a GPU: the same
// command usually crashes again (float16 is refused on a CPU), and takes longer.
// Empty fields keep the spec's.
type CPUProfile struct {
	Image      string            `json:"image,omitempty" yaml:"image,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty" yaml:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty" yaml:"command,omitempty"`
	Env        map[string]string `json:"env,omitempty" yaml:"env,omitempty"` // added to the spec's
	Memory     Bytes             `json:"memory,omitempty" yaml:"memory,omitempty"`
	CPUs       float64           `json:"cpus,omitempty" yaml:"cpus,omitempty"`
	Timeout    Duration          `json:"timeout,omitempty" yaml:"timeout,omitempty"`
}

// Limits bound one container.
type Limits struct {
	Memory Bytes   `json:"memory,omitempty" yaml:"memory,omitempty"`
	CPUs   float64 `json:"cpus,omitempty" yaml:"cpus,omitempty"`
	Pids   int64   `json:"pids,omitempty" yaml:"pids,omitempty"`
	Disk   Bytes   `json:"disk,omitempty" yaml:"disk,omitempty"` // outputs and /tmp together
	Log    Bytes   `json:"log,omitempty" yaml:"log,omitempty"`   // kept per attempt
}

// Retries is the user's policy for failures of the function itself. Respawns
// and lost nodes do not count against it.
type Retries struct {
	Max     int      `json:"max,omitempty" yaml:"max,omitempty"`
	Backoff Duration `json:"backoff,omitempty" yaml:"backoff,omitempty"` // before the first retry; doubles
}

// Network is what a container may reach.
type Network string

const (
	NetworkNone   Network = "none"
	NetworkEgress Network = "egress"
)

// Stdout says what standard output is.
type Stdout string

const (
	StdoutLog    Stdout = "log"
	StdoutResult Stdout = "result"
)

// uploads is the bucket where files wait for their tasks, under in/ and ev/.
// Those never start another task.
const uploads = "uploads"

// Trigger starts the function for each new object that matches every condition.
// Of the bucket "results", the objects are the outputs of other functions' tasks
// that succeeded, and Prefix and Suffix apply to the output's name or its key.
type Trigger struct {
	Bucket       string   `json:"bucket" yaml:"bucket"`
	Prefix       string   `json:"prefix,omitempty" yaml:"prefix,omitempty"`
	Suffix       string   `json:"suffix,omitempty" yaml:"suffix,omitempty"`
	ContentTypes []string `json:"content_types,omitempty" yaml:"content_types,omitempty"` // type/subtype or type/*
	Device       Policy   `json:"device,omitempty" yaml:"device,omitempty"`
}

// Matches reports whether an object starts the function.
func (t Trigger) Matches(bucket, key, contentType string) bool {
	if bucket != t.Bucket || !strings.HasPrefix(key, t.Prefix) || !strings.HasSuffix(key, t.Suffix) {
		return false
	}
	if len(t.ContentTypes) == 0 {
		return true
	}
	have, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return slices.ContainsFunc(t.ContentTypes, func(want string) bool {
		ok, err := path.Match(strings.ToLower(want), strings.TrimSpace(have))
		return err == nil && ok
	})
}

// Function is a deployed spec: immutable once it has a version.
type Function struct {
	Spec
	Version   int       `json:"version"` // from 1
	CreatedAt time.Time `json:"created_at"`
}

// WithDefaults returns s with every empty field that has a default filled.
func (s Spec) WithDefaults() Spec {
	def := func(v *Duration, d time.Duration) {
		if *v == 0 {
			*v = Duration(d)
		}
	}
	if s.Contract == "" {
		s.Contract = TaskContract
	}
	if s.Contract == HTTPContract {
		s.HTTP = s.HTTP.withDefaults()
	}
	if s.Device == "" {
		s.Device = Auto
	}
	if s.SpillAfter == nil {
		d := Duration(30 * time.Second)
		s.SpillAfter = &d
	}
	if s.Limits.Memory == 0 {
		s.Limits.Memory = 512 * MiB
	}
	if s.Limits.CPUs == 0 {
		s.Limits.CPUs = 1
	}
	if s.Limits.Pids == 0 {
		s.Limits.Pids = 256
	}
	if s.Limits.Disk == 0 {
		s.Limits.Disk = GiB
	}
	if s.Limits.Log == 0 {
		s.Limits.Log = 8 * MiB
	}
	def(&s.Timeout, 5*time.Minute)
	def(&s.Grace, 10*time.Second)
	def(&s.QueueTimeout, 6*time.Hour)
	def(&s.Retries.Backoff, time.Second)
	if s.Weight == 0 {
		s.Weight = 1
	}
	if s.Network == "" {
		s.Network = NetworkNone
	}
	if s.Stdout == "" {
		s.Stdout = StdoutLog
	}
	return s
}

// Validate checks a spec that has its defaults. The error names the field.
func (s Spec) Validate() error {
	bad := func(field, format string, args ...any) error {
		return Invalid("bad_spec", "%s", field+": "+fmt.Sprintf(format, args...)).WithField(field)
	}
	if err := s.Name.Validate(); err != nil {
		return bad("name", "%v", err)
	}
	if strings.TrimSpace(s.Image) == "" {
		return bad("image", "is missing")
	}
	if field, why := s.servedFault(); field != "" {
		return bad(field, "%s", why)
	}
	if err := s.Device.Validate(); err != nil {
		return bad("device", "%v", err)
	}
	if field, why := s.gpuFault(); field != "" {
		return bad(field, "%s", why)
	}
	env := func(field string, env map[string]string) error {
		for _, k := range slices.Sorted(maps.Keys(env)) {
			switch {
			case k == "" || strings.ContainsAny(k, "=\x00"):
				return bad(field, "%q is not a variable name", trim(k))
			case strings.Contains(env[k], "\x00"):
				return bad(field, "the value of %s holds a NUL byte", trim(k))
			case reservedEnv(k):
				return bad(field, "%s is set by Spillway, or decides which GPUs a container sees", trim(k))
			}
		}
		return nil
	}
	if err := env("env", s.Env); err != nil {
		return err
	}
	profile := CPUProfile{Memory: s.Limits.Memory, CPUs: s.Limits.CPUs, Timeout: s.Timeout}
	if p := s.CPUProfile; p != nil {
		if err := env("cpu_profile.env", p.Env); err != nil {
			return err
		}
		onCPU := s.On(CPU)
		profile = CPUProfile{Memory: onCPU.Limits.Memory, CPUs: onCPU.Limits.CPUs, Timeout: onCPU.Timeout}
	}
	for _, l := range []struct {
		field    string
		ok       bool
		sentence string
	}{
		{"limits.memory", s.Limits.Memory >= 6*MiB, "is under 6MiB, the least a container starts with"},
		{"limits.cpus", s.Limits.CPUs >= 0.01 && s.Limits.CPUs <= 1024, "is out of range 0.01 to 1024"},
		{"limits.pids", s.Limits.Pids >= 1, "is under 1"},
		{"limits.disk", s.Limits.Disk >= 0, "is negative"},
		{"limits.log", s.Limits.Log >= 0, "is negative"},
		{"timeout", s.Timeout.Std() >= time.Second && s.Timeout.Std() <= 24*time.Hour, "is out of range 1s to 24h"},
		{"cpu_profile.memory", profile.Memory >= 6*MiB, "is under 6MiB, the least a container starts with"},
		{"cpu_profile.cpus", profile.CPUs >= 0.01 && profile.CPUs <= 1024, "is out of range 0.01 to 1024"},
		{"cpu_profile.timeout", profile.Timeout.Std() >= time.Second && profile.Timeout.Std() <= 24*time.Hour, "is out of range 1s to 24h"},
		{"grace", s.Grace >= 0 && s.Grace.Std() <= time.Minute, "is out of range 0s to 1m"},
		{"queue_timeout", s.QueueTimeout.Std() >= shortestWait && s.QueueTimeout.Std() <= longestWait, "is out of range 1s to 168h"},
		{"spill_queue", s.SpillQueue >= 0, "is negative"},
		{"spill_after", s.SpillAfter == nil || *s.SpillAfter >= 0, "is negative"},
		{"warm", s.Warm >= WarmAuto && s.Warm <= mostWarm, "is neither auto nor in the range 0 to 1000"},
		{"concurrency", s.Concurrency >= 0, "is negative"},
		{"max_queue", s.MaxQueue >= 0, "is negative"},
		{"priority", s.Priority >= -100 && s.Priority <= 100, "is out of range -100 to 100"},
		{"weight", s.Weight >= 1 && s.Weight <= 1000, "is out of range 1 to 1000"},
		{"retries.max", s.Retries.Max >= 0 && s.Retries.Max <= mostRetries, "is out of range 0 to 10"},
		{"retries.backoff", s.Retries.Backoff >= 0, "is negative"},
		{"network", s.Network == NetworkNone || s.Network == NetworkEgress, "is not none or egress"},
		{"stdout", s.Stdout == StdoutLog || s.Stdout == StdoutResult, "is not log or result"},
	} {
		if !l.ok {
			return bad(l.field, "%s", l.sentence)
		}
	}
	for _, list := range []struct {
		name string
		all  []Destination
	}{{"on_success", s.OnSuccess}, {"on_failure", s.OnFailure}} {
		if field, why := destinationsFault(list.name, list.all); field != "" {
			return bad(field, "%s", why)
		}
	}
	if field, why := schedulesFault(s.Schedules); field != "" {
		return bad(field, "%s", why)
	}
	for i, h := range s.Handles {
		switch h {
		case Audio, Video, Image, Document, Data:
		default:
			return bad(fmt.Sprintf("handles[%d]", i), "%q is not audio, video, image, document or data", h)
		}
	}
	for i, t := range s.Triggers {
		if t.Bucket == "" {
			return bad(fmt.Sprintf("triggers[%d].bucket", i), "is missing")
		}
		if err := BucketName(t.Bucket); err != nil {
			return bad(fmt.Sprintf("triggers[%d].bucket", i), "%v", err)
		}
		if t.Bucket == uploads && (strings.HasPrefix(t.Prefix, "in/") || strings.HasPrefix(t.Prefix, "ev/")) {
			return bad(fmt.Sprintf("triggers[%d].prefix", i), "%s belongs to tasks that were called with these files; use another prefix or bucket", trim(t.Prefix))
		}
		if t.Device != "" {
			if err := t.Device.Validate(); err != nil {
				return bad(fmt.Sprintf("triggers[%d].device", i), "%v", err)
			}
		}
		for _, c := range t.ContentTypes {
			if _, err := path.Match(c, "a/b"); err != nil || strings.Count(c, "/") != 1 {
				return bad(fmt.Sprintf("triggers[%d].content_types", i), "%q is not type/subtype or type/*", c)
			}
		}
	}
	return nil
}

// reservedEnv names what a spec may not set: our own contract, and variables by
// which an image could take GPUs it was not given.
func reservedEnv(k string) bool {
	return strings.HasPrefix(k, "TASK_") || strings.HasPrefix(k, "NVIDIA_") ||
		k == "CUDA_VISIBLE_DEVICES" || k == "CUDA_DEVICE_ORDER"
}

// On returns the spec as an attempt on d runs it: on the CPU, with the CPU
// profile laid over it.
func (s Spec) On(d Device) Spec {
	p := s.CPUProfile
	if d != CPU || p == nil {
		return s
	}
	if p.Image != "" {
		s.Image = p.Image
	}
	if len(p.Entrypoint) > 0 {
		s.Entrypoint = p.Entrypoint
	}
	if len(p.Command) > 0 {
		s.Command = p.Command
	}
	if len(p.Env) > 0 {
		env := make(map[string]string, len(s.Env)+len(p.Env))
		for k, v := range s.Env {
			env[k] = v
		}
		for k, v := range p.Env {
			env[k] = v
		}
		s.Env = env
	}
	if p.Memory != 0 {
		s.Limits.Memory = p.Memory
	}
	if p.CPUs != 0 {
		s.Limits.CPUs = p.CPUs
	}
	if p.Timeout != 0 {
		s.Timeout = p.Timeout
	}
	return s
}

// Needs is the room that one attempt of s on d takes, GPUs apart.
func (s Spec) Needs(d Device) Resources {
	s = s.On(d)
	return Resources{MilliCPU: int64(math.Round(s.Limits.CPUs * 1000)), Memory: s.Limits.Memory, Tasks: 1}
}
