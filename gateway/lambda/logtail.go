package lambda

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/devices"
)

// maxTail is the most bytes of a log that go with an answer, before encoding.
const maxTail = 4096

// logTail is the end of a task's log as AWS frames it, in base64. The last line
// reports what the newest attempt took, and on which device it ran.
func logTail(t *functions.Task, fn resolved) string {
	var log strings.Builder
	fmt.Fprintf(&log, "START RequestId: %s Version: %s\n", t.ID, fn.executed)
	if t.Outcome != nil && t.Outcome.LogTail != "" {
		log.WriteString(strings.TrimSuffix(t.Outcome.LogTail, "\n") + "\n")
	}
	fmt.Fprintf(&log, "END RequestId: %s\n", t.ID)
	log.WriteString(report(t, fn) + "\n")
	text := log.String()
	if cut := len(text) - maxTail; cut > 0 {
		for cut < len(text) && !utf8.RuneStart(text[cut]) {
			cut++
		}
		text = text[cut:]
	}
	return base64.StdEncoding.EncodeToString([]byte(text))
}

func report(t *functions.Task, fn resolved) string {
	phases := map[functions.Phase]float64{}
	var peak functions.Bytes
	a := t.Last()
	if a != nil {
		for _, s := range a.Phases {
			phases[s.Phase] += s.MS
		}
	}
	if t.Outcome != nil {
		peak = t.Outcome.PeakMemory
	}
	took := phases[functions.PhaseRun]
	memory := fn.WithDefaults().Limits.Memory
	if profile := fn.CPUProfile; profile != nil && profile.Memory > 0 && t.DeviceUsed() == functions.CPU {
		memory = profile.Memory
	}
	fields := []string{
		"REPORT RequestId: " + string(t.ID),
		fmt.Sprintf("Duration: %.2f ms", took),
		fmt.Sprintf("Billed Duration: %.0f ms", math.Ceil(took)),
		fmt.Sprintf("Memory Size: %d MB", memory/functions.MiB),
		fmt.Sprintf("Max Memory Used: %d MB", peak/functions.MiB),
	}
	if a != nil && !a.Warm {
		fields = append(fields, fmt.Sprintf("Init Duration: %.2f ms", phases[functions.PhaseLaunch]))
	}
	if d := t.DeviceUsed(); d != "" {
		fields = append(fields, "Device: "+string(d))
	}
	if why := devices.Line(devices.FallbackReason(t)); why != "" {
		fields = append(fields, "Fallback: "+why)
	}
	return strings.Join(fields, "\t") + "\t"
}

// limit is how long the newest attempt of t was allowed to run.
func (a *API) limit(t *functions.Task) time.Duration {
	fn, err := a.cfg.Functions.Version(t.Function, t.Version)
	if err != nil {
		return 0
	}
	spec := fn.WithDefaults()
	if p := spec.CPUProfile; p != nil && p.Timeout > 0 && t.DeviceUsed() == functions.CPU {
		return p.Timeout.Std()
	}
	return spec.Timeout.Std()
}
