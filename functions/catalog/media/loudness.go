package media

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
)

// Loudness is how loud a sound is by EBU R 128. Silence has no loudness: the
// fields are then nil.
type Loudness struct {
	Integrated *float64 `json:"integrated_lufs"` // of the whole, LUFS
	Range      *float64 `json:"range_lu"`        // between its soft and loud parts, LU
	TruePeak   *float64 `json:"true_peak_dbtp"`  // dBTP
}

// MeasureLoudness listens to the first sound of the file.
func MeasureLoudness(file string) (Loudness, error) {
	cmd := exec.Command("ffmpeg", "-v", "info", "-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", protocols,
		"-i", fileURL(file), "-map", "0:a:0", "-af", "loudnorm=print_format=json", "-f", "null", "-")
	_, stderr, err := run(cmd)
	if err != nil {
		return Loudness{}, notMedia(err, stderr)
	}
	return parseLoudness(stderr)
}

// parseLoudness reads the JSON that the filter loudnorm writes at the end of the
// log. Its numbers are strings, and -inf for silence.
func parseLoudness(log string) (Loudness, error) {
	at := strings.LastIndex(log, "{")
	if at < 0 {
		return Loudness{}, fmt.Errorf("read the loudness: ffmpeg did not report it")
	}
	var m struct {
		I   string `json:"input_i"`
		LRA string `json:"input_lra"`
		TP  string `json:"input_tp"`
	}
	if err := json.NewDecoder(strings.NewReader(log[at:])).Decode(&m); err != nil {
		return Loudness{}, fmt.Errorf("read the loudness: %w", err)
	}
	return Loudness{Integrated: finite(m.I), Range: finite(m.LRA), TruePeak: finite(m.TP)}, nil
}

func finite(s string) *float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}
