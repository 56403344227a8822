// Package runtimetest holds what tests of containers need: a driver in memory
// that keeps the whole contract of package runtime, the suite that says whether
// a driver keeps it, and a small image to run where there is no registry.
package runtimetest
