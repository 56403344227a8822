// Package tasklog is the one ordered log that holds everything that happens to
// tasks, and the channels beside it: function registry, settings, marks of listings,
// leader election, heartbeats, orders to nodes, live logs. It runs on NATS
// JetStream, embedded or outside, and is the only package that knows so.
//
// An event's life: Submit packs it with whatever else waits into one message
// (submit.go), publishes it with a message id until the log acknowledges it
// (publish.go), and returns its sequence; every server's Tail hands it on in
// order, without a hole (tail.go).
//
// The log is a stream with limits, not a work queue: nothing is ever deleted
// but by age, so that sequences are contiguous and a hole or a rewind is seen
// at once. An elected leader (lead.go) is only the one that decides; its epoch,
// the sequence of its own record, is what makes a late decision void.
//
// All names and settings stand in schema.go.
package tasklog
