// Package runtime is the contract between Spillway and whatever runs
// containers, and what is true of a container under every driver.
//
// A container's life: Pull makes sure of its image; Create prepares it and
// starts nothing; Start runs it; it exits by itself or by Stop; Wait tells how;
// Remove deletes every trace. Containers are known by ID, never by handle:
// after a restart of the agent, List shows what is there, Attach takes up the
// output of what still runs, and Wait waits on as before. Labels are the truth
// about what a container is for.
//
// An exit is a result, not an error: an error means that the driver or the
// engine failed. Stopping or removing what is gone succeeds. The context of a
// call bounds the request, never the container.
package runtime
