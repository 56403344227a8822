package probetest

import (
	"fmt"
	"math"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// noInstance is what NVML writes for "of no MIG instance".
const noInstance = math.MaxUint32

// State is all that a driver says.
type State struct {
	Init   int            // what nvmlInit returns: 0, 9 = no kernel module, 12, 18 = another version's, 999
	Driver string         // 580.65.06
	CUDA   int            // 13000 = 13.0
	Hang   string         // the function that does not return for as long as this names it
	Fail   map[string]int // what functions return instead of success
	Say    string         // a line that the library writes to its program's standard output
	GPUs   []GPU

	event int
	last  string
}

// GPU is one GPU. A number of -1 is one that it does not support.
type GPU struct {
	UUID, Model, BusID    string
	Total, Used, Reserved functions.Bytes // the driver's own is Reserved, and not Used
	Utilisation           int
	Processes             []probe.Process
	NVENC, NVDEC          bool
	ECC                   int
	Remap                 bool
	Recovery              int
	Lost                  bool
	Instances             []Instance // not nil: it is divided, into up to 7
}

// Instance is a MIG instance of a GPU.
type Instance struct {
	UUID        string
	Slices      int // of the seven; with the memory they make its profile
	Total, Used functions.Bytes
	NVDEC       bool
	Processes   []probe.Process
}

// GPUs are n GPUs alike, idle and healthy, of a kind that data centres have.
func GPUs(n int, memory functions.Bytes) []GPU {
	var gpus []GPU
	for i := range n {
		gpus = append(gpus, GPU{
			UUID: fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i), Model: "NVIDIA H100 80GB HBM3",
			BusID: fmt.Sprintf("00000000:%02X:00.0", 0x10+i), Total: memory, Reserved: 512 * functions.MiB, NVDEC: true,
		})
	}
	return gpus
}

// text is the state as the library reads it.
func (s State) text() string {
	var b strings.Builder
	put := func(key string, v any) { fmt.Fprintf(&b, "%s=%v\n", key, v) }
	number := func(key string, v int) {
		if v >= 0 {
			put(key, v)
		}
	}
	put("init", s.Init)
	put("driver", s.Driver)
	put("cuda", s.CUDA)
	put("hang", s.Hang)
	put("event", s.last)
	put("count", len(s.GPUs))
	if s.Say != "" {
		put("say", s.Say)
	}
	for call, code := range s.Fail {
		put("fail."+call, code)
	}
	for i, g := range s.GPUs {
		at := fmt.Sprintf("%d.", i)
		put(at+"uuid", g.UUID)
		put(at+"name", g.Model)
		put(at+"bus_id", g.BusID)
		put(at+"total", int64(g.Total))
		put(at+"used", int64(g.Used))
		put(at+"reserved", int64(g.Reserved))
		number(at+"utilisation", g.Utilisation)
		put(at+"processes", processes(g.Processes))
		put(at+"encoder", one(g.NVENC)*100)
		if g.NVDEC {
			put(at+"decoder", 0)
		}
		number(at+"ecc", g.ECC)
		put(at+"remap", one(g.Remap))
		number(at+"recovery", g.Recovery)
		put(at+"lost", one(g.Lost))
		put(at+"mig", one(g.Instances != nil))
		for j, in := range g.Instances {
			at := fmt.Sprintf("%d.mig.%d.", i, j)
			put(at+"uuid", in.UUID)
			put(at+"slices", in.Slices)
			put(at+"total", int64(in.Total))
			put(at+"used", int64(in.Used))
			put(at+"decoders", one(in.NVDEC))
			put(at+"processes", processes(in.Processes))
		}
	}
	return b.String()
}

func processes(list []probe.Process) string {
	var words []string
	for _, p := range list {
		used := "none"
		if p.Memory >= 0 {
			used = fmt.Sprint(int64(p.Memory))
		}
		words = append(words, fmt.Sprintf("%d:%s", p.PID, used))
	}
	return strings.Join(words, " ")
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
