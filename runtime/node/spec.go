package node

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
)

// containerSpec says what container an attempt runs in; binds are its inputs that
// are mounted one by one. It does no I/O.
//
// /task is one writable folder, so that a program may replace result.json and
// progress by renaming; the inputs and event.json are mounted over it read-only.
// /tmp is on disk too, not in memory: limits.disk bounds both together, and
// limits.memory stays the program's own.
func containerSpec(as functions.Assignment, devices []functions.GPUInfo, node functions.NodeID, f folder, binds []runtime.Mount, user owner, deadline time.Time) (runtime.Spec, error) {
	s := as.Function.Spec.WithDefaults().On(as.Device)
	entrypoint, err := fill(s.Entrypoint, as.Task)
	if err != nil {
		return runtime.Spec{}, err
	}
	command, err := fill(s.Command, as.Task)
	if err != nil {
		return runtime.Spec{}, err
	}
	attempt := strconv.Itoa(as.Attempt)
	mounts := []runtime.Mount{{Source: f.work(), Target: taskDir}}
	if len(as.Task.Inputs) > 0 {
		mounts = append(mounts, runtime.Mount{Source: f.in(), Target: inputDir, ReadOnly: true})
	}
	mounts = append(mounts, binds...)
	mounts = append(mounts, runtime.Mount{Source: f.event(), Target: eventFile, ReadOnly: true}, runtime.Mount{Source: f.tmp(), Target: "/tmp"})
	c := containerOf(s, user)
	c.Name = "spillway-" + string(as.Task.ID) + "-" + attempt
	c.Entrypoint, c.Command = entrypoint, command
	c.Env = environment(as, s, devices, deadline)
	c.Mounts = mounts
	c.GPUs = engineIDs(devices)
	c.Labels = map[string]string{
		runtime.LabelNode:    string(node),
		runtime.LabelTask:    string(as.Task.ID),
		runtime.LabelAttempt: attempt,
		runtime.LabelEpoch:   strconv.FormatUint(as.Epoch, 10),
	}
	return c, nil
}

// containerOf is what is the same of every container of a function.
func containerOf(s functions.Spec, user owner) runtime.Spec {
	return runtime.Spec{
		Image:    s.Image,
		User:     user.String(),
		MilliCPU: int64(s.Limits.CPUs * 1000),
		Memory:   s.Limits.Memory,
		Pids:     s.Limits.Pids,
		FileSize: s.Limits.Disk,
		LogSize:  s.Limits.Log,
		Network:  s.Network,
	}
}

// environment is the function's own over our defaults, and under what the
// contract promises. No name stands twice: which of two a program sees is left
// to its C library.
func environment(as functions.Assignment, s functions.Spec, devices []functions.GPUInfo, deadline time.Time) []string {
	env := map[string]string{
		"HOME":   "/tmp",
		"TMPDIR": "/tmp",
		// Maths libraries start a thread per core of the host otherwise.
		"OMP_NUM_THREADS": strconv.Itoa(max(1, int(s.Limits.CPUs))),
	}
	maps.Copy(env, s.Env)
	maps.Copy(env, map[string]string{
		"TASK_ID":            string(as.Task.ID),
		"TASK_FUNCTION":      string(as.Task.Function),
		"TASK_VERSION":       strconv.Itoa(as.Task.Version),
		"TASK_ATTEMPT":       strconv.Itoa(as.Attempt),
		"TASK_DEADLINE_MS":   strconv.FormatInt(deadline.UnixMilli(), 10),
		"TASK_TIMEOUT_S":     strconv.FormatFloat(s.Timeout.Std().Seconds(), 'f', -1, 64),
		"TASK_INPUT_DIR":     inputDir,
		"TASK_OUTPUT_DIR":    outputDir,
		"TASK_EVENT_FILE":    eventFile,
		"TASK_RESULT_FILE":   resultFile,
		"TASK_PROGRESS_FILE": progressFile,
		"TASK_DEVICE":        string(as.Device),
		"TASK_GPU_COUNT":     strconv.Itoa(len(devices)),
	})
	if as.Device == functions.GPU {
		env["NVIDIA_VISIBLE_DEVICES"] = strings.Join(engineIDs(devices), ",")
		env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
		m := leastMemory(devices)
		if claim := as.Asks(); !claim.Alone() {
			m = claim.Memory // others have the rest
		}
		if m > 0 {
			env["TASK_GPU_MEMORY_MIB"] = strconv.FormatInt(int64(m/functions.MiB), 10)
		}
	} else {
		// An image may ask for every GPU by itself, and a host whose default runtime
		// is NVIDIA's would give them.
		env["NVIDIA_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"] = "void", ""
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// leastMemory is 0 when the memory of any device is unknown.
func leastMemory(devices []functions.GPUInfo) functions.Bytes {
	if len(devices) == 0 {
		return 0
	}
	return slices.MinFunc(devices, func(a, b functions.GPUInfo) int { return int(a.Memory - b.Memory) }).Memory
}

var placeholder = regexp.MustCompile(`\{(in|out|task|in\.[^{}]+)\}`)

// fill replaces the placeholders of a command line. Nothing else in braces is
// touched: it may be JSON, or a shell's.
func fill(args []string, t functions.Task) ([]string, error) {
	var err error
	filled := slices.Clone(args)
	for i, arg := range filled {
		filled[i] = placeholder.ReplaceAllStringFunc(arg, func(p string) string {
			name := p[1 : len(p)-1]
			switch name {
			case "out":
				return outputDir
			case "task":
				return string(t.ID)
			case "in":
				if len(t.Inputs) > 0 {
					return inputDir + "/" + t.Inputs[0].Name
				}
				err = fmt.Errorf("the command holds {in}, and the task has no input")
				return p
			}
			name = strings.TrimPrefix(name, "in.")
			if !slices.ContainsFunc(t.Inputs, func(in functions.Input) bool { return in.Name == name }) {
				err = fmt.Errorf("the command holds %s, and the task has no such input", p)
			}
			return inputDir + "/" + name
		})
	}
	return filled, err
}
