package pool

import (
	"math"
	"time"
)

// mostCalls is how many calls of a key are remembered.
const mostCalls = 64

const (
	// firstGuess is how long a start takes before one was measured.
	firstGuess = 250 * time.Millisecond
	// longPause, in starts, is where one pause is as long as another: within it
	// every idle instance that was taken has been replaced several times over.
	longPause = 10
)

// Wanted is how many instances must be idle so that calls like the latest ones
// find one: calls are their times, oldest first, and start is how long it takes
// to replace one that was taken.
//
// By Little's law rate x start are being replaced at any moment. Around that mean
// the number varies by the root of itself, and more where calls come in bursts:
// for that stands the squared coefficient of variation of the gaps between them,
// which is 0 for a clockwork, 1 for calls at random, and B-1 for batches of B. A
// batch needs one instance for each of its calls at once, so it is added as well.
// Never more are wanted than calls were seen.
func Wanted(calls []time.Time, start time.Duration) int {
	if len(calls) < 2 {
		return len(calls)
	}
	if start <= 0 {
		start = firstGuess
	}
	// In units of one start, and no longer than a long pause: how long the quiet
	// hours were says nothing about the next burst.
	var sum, squares float64
	for i, at := range calls[1:] {
		gap := min(max(0, float64(at.Sub(calls[i]))/float64(start)), longPause)
		sum += gap
		squares += gap * gap
	}
	n := float64(len(calls) - 1)
	mean := sum / n
	if mean == 0 {
		return len(calls)
	}
	variation := max(0, squares/n/(mean*mean)-1)
	load := 1 / mean
	wanted := load + 2*math.Sqrt(variation*load) + variation
	return min(int(math.Ceil(wanted-1e-6)), len(calls))
}
