// Package e2e holds the whole-system tests: they build the spillway binary and
// run it as a real process, against real Docker, real JetStream and real object
// stores, and look at it from outside only.
package e2e
