// Package functions is Spillway's vocabulary: the words every other package
// speaks, their rules, and nothing that does I/O. It imports the standard
// library only.
//
// A Function is a named, versioned Spec. A Task is one accepted invocation of
// it. An Attempt is one try of a task, on one node and one Device; a task keeps
// every attempt. A Failure names why an attempt or a task did not succeed, by a
// closed list of classes, because the class alone decides what happens next.
//
// # The life of a task
//
// Everything that happens to a task is an Event in one ordered log. Each server
// reads the log and folds it with Task.Apply, so that all agree on every task
// without talking to each other:
//
//	sub  accepted            -> queued, or awaiting_upload until its bytes arrive
//	asg  placed by a leader  -> assigned: attempt n on a node and a device
//	fin  closed by the node  -> succeeded, or deciding when the attempt failed
//	rel  settled by a leader -> queued again (retry, respawn), or a final state
//	ctl  asked by a client   -> cancel, retry, uploaded
//	ldr  a leader takes over -> its log sequence is the epoch
//
// An event that comes from an old leader, an old attempt, or a client that is
// too late fails its guard and changes nothing. That is the whole of fencing.
//
// # The path of one task, by file
//
//	gateway/invoke.go     HTTP request to Task
//	functions/tasklog     the log: Submit returns once the task is durable
//	functions/taskdb      the projection of the log that lists and pages are read from
//	scheduler/queue.go    which task is next
//	scheduler/decide.go   GPU or CPU, and where; pure
//	runtime/node/admit.go the node takes or refuses the attempt
//	runtime/node/run.go   stage, launch, wait, collect
//	runtime/classify.go   what a failure means; pure
//	scheduler/respawn.go  what follows a failed attempt; pure
package functions
