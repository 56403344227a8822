package runtime

import (
	"cmp"
	"slices"

	"github.com/spillway/spillway/functions"
)

// What a container gets when its spec says nothing.
const (
	DefaultUser     = "65534:65534" // nobody
	DefaultMilliCPU = 1000
	DefaultMemory   = 512 * functions.MiB
	DefaultPids     = 256
	DefaultLogSize  = 8 * functions.MiB
	DefaultTmpfs    = 64 * functions.MiB
	LeastLogSize    = 64 * functions.KiB // of any container
)

// WithDefaults returns the spec with every limit in numbers, for drivers to set.
func (s Spec) WithDefaults() Spec {
	s.User = cmp.Or(s.User, DefaultUser)
	s.MilliCPU = cmp.Or(s.MilliCPU, DefaultMilliCPU)
	s.Memory = cmp.Or(s.Memory, DefaultMemory)
	s.Pids = cmp.Or(s.Pids, DefaultPids)
	s.LogSize = max(cmp.Or(s.LogSize, DefaultLogSize), LeastLogSize)
	s.Tmpfs = slices.Clone(s.Tmpfs)
	for i, t := range s.Tmpfs {
		s.Tmpfs[i].Size = cmp.Or(t.Size, DefaultTmpfs)
	}
	return s
}
