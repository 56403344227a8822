// Package node is the agent of one host: it takes attempts, runs each in one
// container, and writes how it ended to the log.
//
// An attempt is admitted (admit.go: its room and its GPUs are leased here and
// nowhere else), then goes through the phases of run.go: stage, pull, launch,
// run, collect, finish. Whatever happens, it ends with exactly one fin event
// under one message id; until that event is in the log the node holds the
// attempt, its container and its files, and names it in every heartbeat.
//
// Files under DataDir are the agent's memory:
//
//	lock                      one agent at a time
//	boot.json                 the boot id, and the machine's boot that it belongs to
//	cache/                    contents of inputs, for later tasks (cache.go)
//	warm.json                 functions that keep a fixed number of warm containers
//	warm/                     a folder of each warm container, as an attempt's (instance.go)
//	blank/                    tidy folders for attempts to come, new and used ones (blank.go)
//	tasks/TASK.ATTEMPT/
//	    attempt.jsonl         what was admitted, how far it came, how it ended (journal.go);
//	                          absent or empty: nothing to do here
//	    event.json, in/       given to the container, read-only
//	    work/                 /task of the container: out/, result.json, progress
//	    tmp/                  /tmp of the container
//	    log.jsonl             what it wrote
//
// An agent that stops leaves its containers running; the next one adopts them
// under the same boot id and goes on where each stands (adopt.go). After a
// reboot of the machine nothing runs any more: the agent takes a new boot id,
// which tells the leader so.
//
// Of a function with warm some containers wait, started, for its next tasks: each
// is a container as any attempt's, made by package pool before its task was known,
// whose first process is the entry program. An attempt that gets one moves the
// container's folder to its own, stages, notes the container and sends its orders
// (handover.go); from then on all is as with a container of its own, but that the
// program itself tells its exit. What goes wrong before the orders makes the
// attempt start cold. Nobody but the agent that started them can reach those that
// wait: they end with it.
//
// GPUs are read by whatever Config.Readings is (gpus.go): with each order, before a
// launch and after an end out of turn, because other programs use them too
// (recheck.go). Readings also show where programs run, and what containers hold
// that wait for a task (placement.go). Canaries try devices before tasks do
// (canary.go). A lease ends when nothing of its attempt can use the device.
//
// A node that no leader has heard for Timings.Fence kills its containers
// (fence.go), so that the leader can run their tasks elsewhere a little later.
package node
