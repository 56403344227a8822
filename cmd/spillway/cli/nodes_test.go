package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cards is a gateway with a GPU host in every state, one that is off, and one
// without GPUs.
const cards = `{"nodes":[
{"id":"a","alive":true,"ready":true,"driver":"docker","free":{"milli_cpu":3500,"memory":"8GiB","tasks":3},"running":[{},{}],
 "gpu_host":{"state":"ready","source":"nvml","driver":"580.65.06","cuda":"13.0","unsuited":[{"image":"cuda:14","reason":"needs cuda>=14","until":"2026-01-02T03:04:05Z"}]},
 "gpus":[
  {"uuid":"GPU-1","index":0,"model":"NVIDIA L4","memory":"24GiB","state":"leased","leases":[{"task":"t1","memory":"6656MiB"},{"task":"t2","memory":"2560MiB"}],"max_leases":4,"read_at":"2026-01-02T03:04:05Z","used":"9GiB","free":"14GiB","utilisation":37,"can":["nvenc","nvdec"]},
  {"uuid":"GPU-2","index":1,"model":"NVIDIA L4","memory":"24GiB","state":"quarantined","reason":"gpu_device: unknown device","until":"2026-01-02T03:04:05Z","max_leases":4,"read_at":"2026-01-02T03:04:05Z","used":"0","free":"23GiB","utilisation":-1},
  {"uuid":"GPU-3","index":2,"model":"NVIDIA L4","memory":"24GiB","state":"ejected","reason":"Xid 79","leases":[{"task":"t3"}]},
  {"uuid":"GPU-4","index":3,"state":"unread","reason":"no reading for 4s"},
  {"uuid":"MIG-1","index":3,"model":"NVIDIA H200","profile":"1g.18gb","memory":"18GiB","state":"free","read_at":"2026-01-02T03:04:05Z","free":"17GiB"}]},
{"id":"b","alive":true,"ready":true,"driver":"docker","free":{"milli_cpu":1000,"memory":"1GiB","tasks":1},
 "gpu_host":{"state":"off","reason":"gpu_host: driver not loaded","until":"2026-01-02T03:04:05Z"}},
{"id":"c","alive":false,"ready":true,"reason":"","driver":"docker","free":{"milli_cpu":0,"memory":"0","tasks":0},"gpus":[{"uuid":"GPU-9","index":0,"state":"free"}]},
{"id":"d","alive":true,"ready":false,"reason":"disk full","driver":"oci","free":{"milli_cpu":0,"memory":"0","tasks":0},"gpu_host":{"state":"none"}}
]}`

func nodesGateway() answers {
	return answers{
		"GET /v1/nodes":   ok(cards),
		"GET /v1/nodes/a": ok(cards[strings.Index(cards, `{"id":"a"`):strings.Index(cards, ",\n{\"id\":\"b\"")]),
		"GET /v1/nodes/x": {404, `{"code":"no_such_node","detail":"no node is named x"}`},
	}
}

// inUTC makes local times the same on every machine.
func inUTC(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

func TestNodesShowOneRowEach(t *testing.T) {
	got := runOn(t, nodesGateway(), "nodes")
	want := `NODE  STATE      GPUS                                                                                                            RUNNING  WARM  CPU FREE  MEMORY FREE  SEEN  WHY
a     ready      1 free, 1 leased, 1 quarantined (gpu_device: unknown device), 1 ejected (Xid 79), 1 unread (no reading for 4s)  2        none  3.5       8GiB
b     ready      off (gpu_host: driver not loaded)                                                                               0        none  1.0       1GiB
c     silent     1 free                                                                                                          0        none  0.0       0B
d     not ready  none                                                                                                            0        none  0.0       0B                 disk full
`
	if diff := cmp.Diff(want, got.out); diff != "" || got.code != 0 || got.err != "" {
		t.Errorf("(-want +got):\n%s%+v", diff, got.err)
	}
}

func TestNodesShowEachGPU(t *testing.T) {
	inUTC(t)
	const table = `NODE  GPU  MODEL                STATE        TASKS   USED  FREE   TOTAL  UTIL  UNTIL                WHY
a     0    NVIDIA L4            leased       2 of 4  9GiB  14GiB  24GiB  37%
a     1    NVIDIA L4            quarantined  0 of 4  0B    23GiB  24GiB  ?     2026-01-02 03:04:05  gpu_device: unknown device
a     2    NVIDIA L4            ejected      1 of 1  ?     ?      24GiB  ?                          Xid 79
a     3                         unread       0 of 1  ?     ?      ?      ?                          no reading for 4s
a     3    NVIDIA H200 1g.18gb  free         0 of 1  0B    17GiB  18GiB  0%
`
	const host = "a: driver 580.65.06, CUDA up to 13.0, read by nvml\na: does not run cuda:14 until 2026-01-02 03:04:05: needs cuda>=14\n"
	got := runOn(t, nodesGateway(), "nodes", "a")
	if diff := cmp.Diff(said{out: table, err: host}, got, cmp.AllowUnexported(said{})); diff != "" {
		t.Errorf("one node (-want +got):\n%s", diff)
	}
	got = runOn(t, nodesGateway(), "nodes", "--gpus")
	all := said{
		out: table + "c     0                         silent       0 of 1  ?     ?      ?      ?\n",
		err: host + "b: its GPUs are off until 2026-01-02 03:04:05: gpu_host: driver not loaded\nd: no NVIDIA driver is installed\n",
	}
	if diff := cmp.Diff(all, got, cmp.AllowUnexported(said{})); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	wide := runOn(t, nodesGateway(), "nodes", "node/a", "-o", "wide").out
	for _, want := range []string{"UUID", "HELD BY", "GPU-1", "MIG-1", "nvenc nvdec", "t1 6656MiB, t2 2560MiB", "t3 alone"} {
		if !strings.Contains(wide, want) {
			t.Errorf("-o wide lacks %q:\n%s", want, wide)
		}
	}
}

func TestGPUsForPrograms(t *testing.T) {
	for _, c := range []struct {
		args []string
		out  string // exact, or with a dash the beginning
	}{
		{[]string{"nodes", "a", "-o", "name"}, "gpu/GPU-1\ngpu/GPU-2\ngpu/GPU-3\ngpu/GPU-4\ngpu/MIG-1\n"},
		{[]string{"nodes", "--gpus", "-o", "name"}, "gpu/GPU-1\ngpu/GPU-2\ngpu/GPU-3\ngpu/GPU-4\ngpu/MIG-1\ngpu/GPU-9\n"},
		{[]string{"nodes", "-o", "name"}, "node/a\nnode/b\nnode/c\nnode/d\n"},
	} {
		if got := runOn(t, nodesGateway(), c.args...); (got != said{out: c.out}) {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
	lines := strings.Split(runOn(t, nodesGateway(), "nodes", "--gpus", "-o", "jsonl").out, "\n")
	if len(lines) != 7 || !strings.Contains(lines[5], `"node":"c"`) || !strings.Contains(lines[5], `"uuid":"GPU-9"`) {
		t.Errorf("jsonl: %q", lines)
	}
	for format, begins := range map[string]string{"json": "{\n  \"id\": \"a\",\n", "yaml": "id: a\n"} {
		if got := runOn(t, nodesGateway(), "nodes", "a", "-o", format); !strings.HasPrefix(got.out, begins) || got.err != "" {
			t.Errorf("%s is not the gateway's own answer: %+v", format, got)
		}
	}
	if got := runOn(t, nodesGateway(), "nodes", "x"); got.code != 4 {
		t.Errorf("an unknown node: %+v", got)
	}
}

func TestReadmitOrders(t *testing.T) {
	for _, c := range []struct {
		args  []string
		order string // path that is asked for
		code  int
		says  string
	}{
		{[]string{"a"}, "/v1/nodes/a/gpus/all/readmit", 0, "every GPU of a is readmitted"},
		{[]string{"node/a", "gpu/GPU-2"}, "/v1/nodes/a/gpus/GPU-2/readmit", 0, "GPU-2 of a is readmitted"},
		{[]string{"a", "2"}, "/v1/nodes/a/gpus/GPU-3/readmit", 0, "GPU-3 of a"},
		{[]string{"a", "3"}, "", 2, "not the number of one device alone"},
		{[]string{"a", "7"}, "", 4, "spillway nodes a lists them"},
		{[]string{"x", "0"}, "", 4, "no node is named x"},
		{[]string{"a", "GPU-2", "-o", "json"}, "/v1/nodes/a/gpus/GPU-2/readmit", 0, ""},
	} {
		order := ""
		got := runOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				order = r.URL.Path
				w.WriteHeader(http.StatusNoContent)
				return
			}
			nodesGateway().ServeHTTP(w, r)
		}), append([]string{"nodes", "readmit"}, c.args...)...)
		if order != c.order || got.code != c.code || !strings.Contains(got.err, c.says) || got.out != "" || c.says == "" && got.err != "" {
			t.Errorf("%v: ordered %q, %+v", c.args, order, got)
		}
	}
	silent := answers{"POST /v1/nodes/a/gpus/all/readmit": {503, `{"code":"node_silent","detail":"node a does not answer","hint":"try again"}`}}
	if got := runOn(t, silent, "nodes", "readmit", "a"); got.code != 1 || !strings.Contains(got.err, "does not answer") || !strings.Contains(got.err, "hint: try again") {
		t.Errorf("a node that is silent: %+v", got)
	}
}

// TestWarnings: what no node can run is said where it is accepted, whatever the
// output's form, and never in the output.
func TestWarnings(t *testing.T) {
	const why = "no node can ever run this: it needs a GPU and no node has one"
	spec := filepath.Join(t.TempDir(), "function.yaml")
	if err := os.WriteFile(spec, []byte("name: f\nimage: i\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := answers{
		"POST /v1/functions":          {201, `{"name":"f","version":1,"warning":"` + why + `"}`},
		"POST /v1/functions/f/invoke": {202, `{"id":"t1","status":"queued","warning":"` + why + `"}`},
	}
	for _, args := range [][]string{{"deploy", spec}, {"deploy", spec, "-o", "json"}, {"invoke", "f", "--async"}, {"invoke", "f", "--async", "-o", "name"}} {
		got := runOn(t, gateway, args...)
		if got.err != "warning: "+why+"\n" || got.code != 0 || got.out == "" || strings.HasPrefix(got.out, "warning") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	gateway["POST /v1/uploads"] = answer{201, `{"id":"t2","state":"queued","function":"f","warning":"` + why + `"}`}
	if got := runOn(t, gateway, "upload", spec, "--function", "f", "--no-wait", "-o", "json"); !strings.HasPrefix(got.err, "warning: "+why+"\n") {
		t.Errorf("upload: %+v", got)
	}
}
