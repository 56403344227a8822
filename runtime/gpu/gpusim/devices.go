package gpusim

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime/gpu/probe"
)

// maxDevices is more than any machine has.
const maxDevices = 64

// defaultModel is the model of devices that were given none.
const defaultModel = "Simulated GPU"

// ParseDevices reads "2x80GiB" or "1x24GiB:L4,2x80GiB:H100" as the idle devices
// of a node: how many, the memory of each and, after a colon, their model. The
// UUIDs are the same each time. What is wrong is ErrInvalid.
func ParseDevices(text string, node functions.NodeID) ([]probe.Device, error) {
	var devices []probe.Device
	for part := range strings.SplitSeq(text, ",") {
		size, model, named := strings.Cut(strings.TrimSpace(part), ":")
		count, memory, ok := strings.Cut(size, "x")
		n, err := strconv.Atoi(strings.TrimSpace(count))
		switch model = strings.TrimSpace(model); {
		case !ok || err != nil || n < 1:
			return nil, badDevices("%q does not say how many devices of which size", part)
		case len(devices)+n > maxDevices:
			return nil, badDevices("%q makes more than %d devices", part, maxDevices)
		case named && !printable(model):
			return nil, badDevices("%q names a model that is empty, or not plain text", part)
		case !named:
			model = defaultModel
		}
		total, err := functions.ParseBytes(memory)
		if err != nil || total < 2*functions.GPUOverhead || total > functions.TiB {
			return nil, badDevices("%q is not the memory of a device, from %s to %s", strings.TrimSpace(memory), 2*functions.GPUOverhead, functions.TiB)
		}
		for range n {
			i := len(devices)
			devices = append(devices, probe.Device{
				UUID: fmt.Sprintf("SIM-%s-%d", node, i), Index: i, Minor: i, BusID: fmt.Sprintf("00000000:%02X:00.0", i+1),
				Model: model, Total: total, Free: total, Can: []string{"nvenc", "nvdec"},
			})
		}
	}
	return devices, nil
}

func badDevices(format string, args ...any) error {
	return functions.Invalid("bad_simulated_gpu", format, args...).
		WithHint("write COUNTxMEMORY or COUNTxMEMORY:MODEL, such as 2x80GiB:H100; join several by commas")
}

// printable reports whether s can stand in a table and in a line of a file.
func printable(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
