package probe

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// smiLimit is how long nvidia-smi may take: without nvidia-persistenced it wakes
// every GPU first.
const smiLimit = 15 * time.Second

// smiFields are asked for. The first four must be known to the driver; of the
// others an old one may know fewer.
var smiFields = []string{"index", "uuid", "name", "driver_version", "pci.bus_id", "memory.total", "memory.used", "memory.free",
	"utilization.gpu", "mig.mode.current", "ecc.errors.uncorrected.volatile.total"}

const smiNeeded = 4

// What nvidia-smi ends with: NVML's own codes.
const (
	smiNoSuchField = 2
	smiNoDevices   = 6
	smiNotLoaded   = 9
	smiNoLibrary   = 12
	smiLost        = 15
	smiMismatch    = 18
)

var (
	smiUnknownField = regexp.MustCompile(`Field "([^"]+)" is not a valid field`)
	smiCUDA         = regexp.MustCompile(`CUDA[ A-Z]* Version\s*:\s*(\d+\.\d+)`)
)

// smi asks nvidia-smi. One goroutine uses it.
type smi struct {
	path string
	run  func(ctx context.Context, limit time.Duration, path string, args ...string) (string, end, error)

	fields []string // that this driver knows; nil = not asked yet
	driver string   // of which cuda is known
	cuda   string
}

// read takes one reading. MIG instances are not in it: nvidia-smi tells no
// memory of theirs.
func (s *smi) read(ctx context.Context) Reading {
	r := Reading{At: time.Now(), Source: "nvidia-smi"}
	out, e, err := s.query(ctx)
	if err != nil {
		r.Status, r.Message = Silent, "nvidia-smi: "+err.Error()
		return r
	}
	if r.Status, r.Message = smiStatus(e, out); r.Status != OK {
		return r
	}
	var odd []string
	r.Driver, r.Devices, odd = parseSMI(s.fields, out)
	if e.code != 0 && len(odd) == 0 {
		odd = []string{firstLine(out)}
	}
	r.Message = strings.Join(odd, "; ")
	if r.Driver != "" && r.Driver != s.driver {
		if text, _, err := s.run(ctx, smiLimit, s.path); err == nil {
			s.driver, s.cuda = r.Driver, ""
			if m := smiCUDA.FindStringSubmatch(text); m != nil {
				s.cuda = m[1]
			}
		}
	}
	r.CUDA = s.cuda
	return r
}

// query asks for the fields, and again without one that the driver does not know.
func (s *smi) query(ctx context.Context) (string, end, error) {
	if s.fields == nil {
		s.fields = slices.Clone(smiFields)
	}
	for {
		out, e, err := s.run(ctx, smiLimit, s.path, "--query-gpu="+strings.Join(s.fields, ","), "--format=csv,noheader,nounits")
		if err != nil || e.code != smiNoSuchField {
			return out, e, err
		}
		m := smiUnknownField.FindStringSubmatch(out)
		if m == nil {
			return out, e, nil
		}
		i := slices.Index(s.fields, m[1])
		if i < smiNeeded {
			return out, e, errors.New(firstLine(out))
		}
		s.fields = slices.Delete(s.fields, i, i+1)
	}
}

// smiStatus judges how nvidia-smi ended.
func smiStatus(e end, out string) (Status, string) {
	said := firstLine(out)
	switch e.code {
	case 0, smiNoDevices, smiLost: // of which the other GPUs may still be told
		return OK, ""
	case smiNotLoaded:
		return NotLoaded, "the NVIDIA driver is installed and its kernel module does not run: " + said
	case smiNoLibrary:
		return NoDriver, "no NVIDIA driver is installed: " + said
	case smiMismatch:
		return Mismatch, "the NVIDIA driver was upgraded and its old kernel module still runs: reboot this machine: " + said
	}
	return Broken, fmt.Sprintf("nvidia-smi fails (%s): %s", e.text, said)
}

func firstLine(out string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "")
}
