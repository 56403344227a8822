package measure

import (
	"math"
	"slices"
)

// kept is how many samples a summary keeps: enough to draw a distribution.
const kept = 500

// Summary is a distribution of values, in the unit of its samples.
type Summary struct {
	N    int     `json:"n"`
	Min  float64 `json:"min"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
	// Sorted are the samples, ascending; of more than 500 those at even steps
	// through the order, both ends included.
	Sorted []float64 `json:"sorted,omitempty"`
}

// Summarize describes samples, which keep their order. Without samples it is nil.
func Summarize(samples []float64) *Summary {
	if len(samples) == 0 {
		return nil
	}
	v := slices.Clone(samples)
	slices.Sort(v)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	s := &Summary{
		N: len(v), Min: v[0], P50: Quantile(v, 0.5), P90: Quantile(v, 0.9), P99: Quantile(v, 0.99), Max: v[len(v)-1],
		Mean: sum / float64(len(v)), Sorted: v,
	}
	if len(v) > kept {
		s.Sorted = make([]float64, kept)
		for i := range s.Sorted {
			s.Sorted[i] = v[i*(len(v)-1)/(kept-1)]
		}
	}
	return s
}

// Quantile is the smallest of sorted values that at least the share q of them
// does not exceed (nearest rank). q is from 0 to 1; sorted must not be empty.
func Quantile(sorted []float64, q float64) float64 {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank-1, 0), len(sorted)-1)]
}
