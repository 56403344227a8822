// Package measure times things on a machine that others use too: distributions
// of latencies, rates at so many in flight, and the processor time of the whole
// machine, so that work which a daemon does for a caller counts as the caller's.
package measure
