package functions

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// nodeOf is a node with 8 CPUs, 16 GiB and GPUs of so many GiB.
func nodeOf(gpus ...int) NodeStatus {
	n := NodeStatus{NodeInfo: NodeInfo{ID: "n", Capacity: Resources{MilliCPU: 8000, Memory: 16 * GiB, Tasks: 4}}}
	for i, m := range gpus {
		n.GPUs = append(n.GPUs, GPUInfo{UUID: fmt.Sprint("GPU-", i), Index: i, Memory: Bytes(m) * GiB, State: GPUFree})
	}
	return n
}

func TestNeverRunsSaysWhatIsMissing(t *testing.T) {
	with := func(n NodeStatus, edit func(*NodeStatus)) NodeStatus { edit(&n); return n }
	nvenc := func(n *NodeStatus) { n.GPUs[0].Can = []string{"nvenc"} }
	driver := func(v, cuda string) func(*NodeStatus) {
		return func(n *NodeStatus) { n.GPUHost = &GPUHostInfo{State: GPUHostReady, Driver: v, CUDA: cuda} }
	}
	sick := func(n *NodeStatus) { n.GPUs[0].State = GPUEjected }
	mig := func(n *NodeStatus) { n.GPUs[1].Parent = "GPU-9" }
	broken := func(n *NodeStatus) { n.GPUHost = &GPUHostInfo{State: GPUHostOff} }
	assumed := func(n *NodeStatus) { n.GPUs[0].Assumed, n.GPUs[0].Memory = true, 0 }
	var (
		dgx   = nodeOf(80, 80, 80, 80, 80, 80, 80, 80)
		small = nodeOf(24, 24)
		bare  = nodeOf()
	)
	const gpuless = "no node can ever run this: it needs a GPU and no node has one"
	for _, c := range []struct {
		name   string
		device Policy
		need   *GPUNeed
		cpus   float64
		memory Bytes
		nodes  []NodeStatus
		why    string // a sentence is a warning when it is not never
		never  bool
	}{
		{"no node is known", Required, &GPUNeed{Count: 64}, 0, 0, nil, "", false},
		{"a GPU", Required, nil, 0, 0, []NodeStatus{bare, small}, "", false},
		{"a GPU where none is", Required, nil, 0, 0, []NodeStatus{bare}, gpuless, true},
		{"a sick one may come back", Required, nil, 0, 0, []NodeStatus{with(nodeOf(24), sick)}, "", false},
		{"16 of 8", Required, &GPUNeed{Count: 16}, 0, 0, []NodeStatus{dgx, small}, "no node can ever run this: it needs 16 GPUs and the largest node has 8", true},
		{"64", Required, &GPUNeed{Count: 64}, 0, 0, []NodeStatus{small}, "no node can ever run this: it needs 64 GPUs and the largest node has 2", true},
		{"not over two nodes", Required, &GPUNeed{Count: 3}, 0, 0, []NodeStatus{small, small}, "no node can ever run this: it needs 3 GPUs and the largest node has 2", true},
		{"8", Required, &GPUNeed{Count: 8}, 0, 0, []NodeStatus{small, dgx}, "", false},
		{"900GiB", Required, &GPUNeed{Memory: 900 * GiB}, 0, 0, []NodeStatus{dgx, small}, "no node can ever run this: it needs a GPU with 900GiB for it and 1GiB for the driver and its context, and the largest has 80GiB", true},
		{"as large as the device, and the driver", Required, &GPUNeed{Memory: 24 * GiB}, 0, 0, []NodeStatus{small}, "no node can ever run this: it needs a GPU with 24GiB for it and 1GiB for the driver and its context, and the largest has 24GiB", true},
		{"two of the larger ones", Required, &GPUNeed{Count: 2, Memory: 40 * GiB}, 0, 0, []NodeStatus{nodeOf(80, 24), small}, "no node can ever run this: it needs 2 GPUs that suit and the largest node has 1", true},
		{"an encoder", Required, &GPUNeed{Needs: []string{"nvenc"}}, 0, 0, []NodeStatus{dgx}, "no node can ever run this: it needs a GPU with nvenc and no node has that", true},
		{"an encoder that is there", Required, &GPUNeed{Needs: []string{"nvenc"}}, 0, 0, []NodeStatus{with(nodeOf(24), nvenc)}, "", false},
		{"the encoder is on the small one", Required, &GPUNeed{Needs: []string{"nvenc"}, Memory: 40 * GiB}, 0, 0, []NodeStatus{with(nodeOf(24), nvenc), dgx}, "no node can ever run this: it needs a GPU with 40GiB for it and 1GiB for the driver and its context, and the largest has 24GiB", true},
		{"all", Required, &GPUNeed{All: true}, 0, 0, []NodeStatus{small}, "", false},
		{"all, and some are divided", Required, &GPUNeed{All: true}, 0, 0, []NodeStatus{with(nodeOf(24, 10), mig)}, "no node can ever run this: it needs every GPU of a node whole, and on each node some are divided into MIG instances", true},
		{"all, of a size that one has", Required, &GPUNeed{All: true, Memory: 40 * GiB}, 0, 0, []NodeStatus{nodeOf(80, 24)}, "no node can ever run this: it needs every GPU of a node with 40GiB for it and 1GiB for the driver and its context, and the largest has 80GiB", true},
		{"all, with an encoder that one has", Required, &GPUNeed{All: true, Needs: []string{"nvenc"}}, 0, 0, []NodeStatus{with(nodeOf(24, 24), nvenc)}, "no node can ever run this: it needs every GPU of a node with nvenc and no node has that", true},
		{"a newer driver", Required, &GPUNeed{MinDriver: "580", MinCUDA: "13.0"}, 0, 0, []NodeStatus{with(nodeOf(24), driver("535.104.05", "12.2"))}, "no node can ever run this: it needs driver 580 or newer and CUDA 13.0 or newer, and no node with such GPUs has it", true},
		{"the driver that is there", Required, &GPUNeed{MinDriver: "535.104", MinCUDA: "12"}, 0, 0, []NodeStatus{with(nodeOf(24), driver("535.104.05", "12.2"))}, "", false},
		{"nobody knows the driver", Required, &GPUNeed{MinDriver: "580"}, 0, 0, []NodeStatus{small}, "", false},
		{"nobody knows the device", Required, &GPUNeed{Memory: 900 * GiB, Needs: []string{"nvenc"}}, 0, 0, []NodeStatus{with(nodeOf(24), assumed)}, "", false},
		{"nobody knows what a broken driver hides", Required, &GPUNeed{Count: 64}, 0, 0, []NodeStatus{with(nodeOf(), broken)}, "", false},
		{"cores of the GPU's node", Required, nil, 9, 0, []NodeStatus{small}, "no node can ever run this: it needs 9 CPU(s) and the largest node with such GPUs has 8 CPU(s)", true},
		{"cores", Never, nil, 9, 0, []NodeStatus{bare, small}, "no node can ever run this: it needs 9 CPU(s) and the largest node has 8 CPU(s)", true},
		{"host memory", Never, nil, 1, 17 * GiB, []NodeStatus{bare}, "no node can ever run this: it needs 17GiB of host memory and the largest node has 16GiB", true},
		{"both of them, and never together", Never, nil, 9, 9 * GiB, []NodeStatus{bare, with(nodeOf(), func(n *NodeStatus) { n.Capacity = Resources{MilliCPU: 16000, Memory: GiB} })}, "no node can ever run this: it needs 9 CPU(s) and 9GiB of host memory, which no one node has together", true},
		{"the CPU serves too, with a warning", Preferred, &GPUNeed{Count: 3}, 0, 0, []NodeStatus{small}, "no node can ever run this on a GPU: it needs 3 GPUs and the largest node has 2; it runs on the CPU", false},
		{"auto without a wish is no news", Auto, nil, 0, 0, []NodeStatus{bare}, "", false},
		{"neither", Fastest, &GPUNeed{Count: 3}, 99, 0, []NodeStatus{small}, "no node can ever run this: on a GPU, it needs 3 GPUs and the largest node has 2; on the CPU, it needs 99 CPU(s) and the largest node has 8 CPU(s)", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := Spec{Device: c.device, GPU: c.need, Limits: Limits{CPUs: c.cpus, Memory: c.memory}}
			if why, never := NeverRuns(spec, c.nodes); why != c.why || never != c.never {
				t.Errorf("got  %v %q\nwant %v %q", never, why, c.never, c.why)
			}
		})
	}
}

// A node that could run the function when idle is never overlooked, and a
// further node never makes matters worse.
func TestNeverRunsAgreesWithWhatDevicesTake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []NodeStatus
		for range rapid.IntRange(1, 4).Draw(t, "nodes") {
			n := nodeOf(rapid.SliceOfN(rapid.SampledFrom([]int{0, 16, 24, 80}), 0, 4).Draw(t, "gpus")...)
			for i := range n.GPUs {
				n.GPUs[i].State = rapid.SampledFrom([]GPUState{GPUFree, GPUEjected}).Draw(t, "state")
				n.GPUs[i].Can = rapid.SampledFrom([][]string{nil, {"nvenc"}, {"nvenc", "nvdec"}}).Draw(t, "can")
			}
			n.GPUHost = &GPUHostInfo{State: GPUHostReady, Driver: rapid.SampledFrom([]string{"", "535.1", "580.65.06"}).Draw(t, "driver")}
			nodes = append(nodes, n)
		}
		need := GPUNeed{
			Count: rapid.IntRange(0, 5).Draw(t, "count"), Memory: Bytes(rapid.SampledFrom([]int{0, 8, 16, 40}).Draw(t, "memory")) * GiB,
			Needs: rapid.SampledFrom([][]string{nil, {"nvenc"}}).Draw(t, "needs"), MinDriver: rapid.SampledFrom([]string{"", "535.104"}).Draw(t, "min"),
		}
		spec := Spec{Device: Required, GPU: &need, Limits: Limits{CPUs: float64(rapid.IntRange(1, 9).Draw(t, "cpus"))}}
		could := false
		for _, n := range nodes {
			takes := 0
			for _, g := range n.GPUs {
				if g.State = GPUFree; g.Takes(spec.Claim()) {
					takes++
				}
			}
			could = could || takes >= spec.Claim().Count && n.GPUHost.Drives(need) && spec.Limits.CPUs <= 8
		}
		why, never := NeverRuns(spec, nodes)
		if never == could || (why == "") == never {
			t.Fatalf("never is %v (%q), and a node could: %v", never, why, could)
		}
	})
}

func TestVersionsAreComparedByNumber(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"535.54.03", "535.104", true}, {"535.104", "535.54.03", false}, {"12", "12.0.0", false}, {"12.0.0", "12", false},
		{"9.2", "12.2", true}, {"535", "535.104", true}, {"", "12", false}, {"12", "", false}, {"unknown", "12", false}, {"12.x", "13", false},
	} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%q, %q) = %v", c.a, c.b, got)
		}
	}
}
