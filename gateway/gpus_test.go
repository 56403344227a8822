package gateway_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/spillway/spillway/functions"
)

// TestGPUFieldsAreDescribed holds what openapi.json says of GPUs and the types
// equal, both ways. A field that it lacks would fail no answer that has it empty.
func TestGPUFieldsAreDescribed(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	schema := func(path ...string) *openapi3.Schema {
		s := doc.Components.Schemas[path[0]].Value
		for _, field := range path[1:] {
			s = s.Properties[field].Value.Items.Value
		}
		return s
	}
	for name, c := range map[string]struct {
		of any
		in *openapi3.Schema
	}{
		"a GPU":           {functions.GPUInfo{}, schema("GPU")},
		"a lease":         {functions.GPULease{}, schema("GPU", "leases")},
		"a host's GPUs":   {functions.GPUHostInfo{}, schema("GPUHost")},
		"an image":        {functions.UnsuitedImage{}, schema("GPUHost", "unsuited")},
		"a need of a GPU": {functions.GPUNeed{}, schema("GPUNeed")},
	} {
		var fields, described []string
		for f := range reflect.TypeOf(c.of).Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, key)
		}
		for key := range c.in.Properties {
			described = append(described, key)
		}
		slices.Sort(fields)
		slices.Sort(described)
		if !slices.Equal(fields, described) {
			t.Errorf("%s has %v, and openapi.json describes %v", name, fields, described)
		}
	}
	for _, state := range []functions.GPUState{functions.GPUFree, functions.GPULeased, functions.GPUQuarantined, functions.GPUEjected, functions.GPUUnread} {
		if !slices.Contains(schema("GPU").Properties["state"].Value.Enum, any(string(state))) {
			t.Errorf("a GPU may be %s, and openapi.json does not say so", state)
		}
	}
	for _, field := range []string{"gpu", "spill_after", "spill_queue"} {
		if schema("Function").Properties[field] == nil {
			t.Errorf("openapi.json says nothing of a function's %s", field)
		}
	}
}

// TestFunctionWithGPUIsShown: the answer is checked against openapi.json.
func TestFunctionWithGPUIsShown(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.do(t, "POST", "/v1/functions", `{"name":"g","image":"i","device":"fastest","spill_queue":5,"spill_after":"10s",
		"gpu":{"count":2,"memory":"6GiB","exclusive":true,"needs":["nvenc","nvdec"],"min_driver":"535.104","min_cuda":"12.2","tries":3,"within":"10m"}}`)
	if rec.Code != 201 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	fn := decode[functions.Function](t, rec)
	if g := fn.GPU; g == nil || g.Count != 2 || g.Memory != 6*functions.GiB || !g.Exclusive || len(g.Needs) != 2 || g.Tries != 3 || fn.SpillQueue != 5 {
		t.Errorf("%s", rec.Body)
	}
}

// TestNodesShowTheirGPUs: every field of every device arrives.
func TestNodesShowTheirGPUs(t *testing.T) {
	w := newWorld(t, nil)
	want := w.Nodes()[0]
	got := decode[functions.NodeStatus](t, w.do(t, "GET", "/v1/nodes/n1", ""))
	a, errA := json.Marshal(want.GPUs)
	b, errB := json.Marshal(got.GPUs)
	if errA != nil || errB != nil || string(a) != string(b) || !reflect.DeepEqual(want.GPUHost, got.GPUHost) {
		t.Errorf("(-want +got):\n- %s %+v\n+ %s %+v", a, want.GPUHost, b, got.GPUHost)
	}
	states := map[functions.GPUState]bool{}
	for _, g := range got.GPUs {
		states[g.State] = true
	}
	if len(states) != 5 {
		t.Errorf("only %v were shown", states)
	}
}

func TestReadmit(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name, path string
		deaf       error
		status     int
		code       string
		order      string // that reaches the node
	}{
		{"one GPU", "n1/gpus/GPU-2", nil, 204, "", "n1/GPU-2"},
		{"a MIG instance", "n1/gpus/MIG-1", nil, 204, "", "n1/MIG-1"},
		{"one that is offered anyway", "n1/gpus/GPU-1", nil, 204, "", "n1/GPU-1"},
		{"all of a node", "n1/gpus/all", nil, 204, "", "n1/"},
		{"an unknown GPU", "n1/gpus/GPU-9", nil, 404, "no_such_gpu", ""},
		{"a part of a name", "n1/gpus/GPU", nil, 404, "no_such_gpu", ""},
		{"no name", "n1/gpus/%20", nil, 404, "no_such_gpu", ""},
		{"an unknown node", "n9/gpus/GPU-1", nil, 404, "no_such_node", ""},
		{"no node's name", "a%20b/gpus/GPU-1", nil, 400, "", ""},
		{"a node that is away", "n1/gpus/all", functions.Unavailable("no_responder", "node n1 is not connected"), 503, "node_silent", ""},
		{"a node that is silent", "n1/gpus/all", functions.NewError(functions.ErrTimeout, "no_answer", "node n1 did not answer in time"), 503, "node_silent", ""},
		{"a GPU that the node has lost meanwhile", "n1/gpus/GPU-1", functions.NotFound("no_such_gpu", "no GPU-1"), 404, "no_such_gpu", ""},
	} {
		w.deaf, w.readmitted = c.deaf, nil
		rec := w.do(t, "POST", "/v1/nodes/"+c.path+"/readmit", "")
		if rec.Code != c.status || strings.Join(w.readmitted, " ") != c.order {
			t.Errorf("%s: %d %s, ordered %q", c.name, rec.Code, rec.Body, w.readmitted)
		}
		if c.status >= 400 {
			p := decode[struct{ Code, Hint string }](t, rec)
			if c.code != "" && (p.Code != c.code || c.deaf == nil && p.Hint == "") {
				t.Errorf("%s: %+v", c.name, p)
			}
		}
	}
}
