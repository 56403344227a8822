package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

// TestGPUNeedIsRefused: a size that makes no sense is refused where it is
// written, and not when a task waits for a GPU that there cannot be.
func TestGPUNeedIsRefused(t *testing.T) {
	const head = "name: f\nimage: i\n"
	for _, c := range []struct {
		text, line, field, says, hint string
	}{
		{"gpu: {memory: lots}\n", "line 3", "gpu.memory", `"lots" is not a size`, "512MiB"},
		{"gpu:\n  memory: -1GiB\n", "line 4", "gpu.memory", `"-1GiB" is not a size`, "512MiB"},
		{"gpu:\n  memory: 16\n", "line 4", "gpu.memory", "did you mean GiB", ""},
		{"gpu:\n  memory: 1e30GiB\n", "line 4", "gpu.memory", "not a size", "512MiB"},
		{"gpu:\n  count: 1000\n", "line 4", "gpu.count", "out of range 0 to 64", ""},
		{"gpu:\n  count: -1\n", "line 4", "gpu.count", "out of range", ""},
		{"gpu:\n  count: two\n", "line 4", "gpu.count", "a whole number", ""},
		{"gpu:\n  all: true\n  count: 2\n", "line 5", "gpu.count", "gpu.all", ""},
		{"gpu: {needs: [cuda]}\n", "line 3", "gpu.needs[0]", `"cuda" is not nvenc or nvdec`, ""},
		{"gpu:\n  needs:\n  - nvdec\n  - cuda\n", "line 6", "gpu.needs[1]", `"cuda"`, ""},
		{"gpu: {needs: nvenc}\n", "line 3", "gpu.needs", "not a list", "[one, two]"},
		{"gpu:\n  min_driver: newest\n", "line 4", "gpu.min_driver", "535.104", ""},
		{"gpu:\n  min_cuda: 12.x\n", "line 4", "gpu.min_cuda", "12.2", ""},
		{"gpu:\n  tries: 11\n", "line 4", "gpu.tries", "out of range", ""},
		{"gpu:\n  within: 25h\n", "line 4", "gpu.within", "out of range", ""},
		{"gpu:\n  memmory: 1GiB\n", "line 4", "gpu.memmory", "not a key", "exclusive"},
		{"device: quickest\n", "line 3", "device", "not a device policy", ""},
		{"spill_queue: -1\n", "line 3", "spill_queue", "negative", ""},
	} {
		_, err := Parse([]byte(head + c.text))
		e, ok := errors.AsType[*functions.Error](err)
		if !ok || e.Code != "bad_spec" || !strings.HasPrefix(e.Message, c.line+":") || e.Field != c.field || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%q: %+v, want %s, field %s, %q and the hint %q", c.text, err, c.line, c.field, c.says, c.hint)
		}
	}
	s, err := Parse([]byte(head + "device: fastest\nspill_queue: 4\ngpu: {count: 64, memory: 1MiB, exclusive: true, needs: [nvenc, nvdec], min_driver: 535.104.05, min_cuda: 12, tries: 10, within: 24h}\n"))
	if err != nil || s.GPU.Count != 64 || s.GPU.Memory != functions.MiB || s.SpillQueue != 4 || s.Device != functions.Fastest || s.GPU.MinCUDA != "12" {
		t.Errorf("%+v, %v", s, err)
	}
}
