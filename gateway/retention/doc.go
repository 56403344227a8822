// Package retention deletes the files that ended tasks left behind, once they
// have been kept for as long as the operator said. It deletes only what Spillway
// itself stored, in its own two buckets, and nothing that an unfinished task
// needs.
//
// A file goes in two steps. A sweep walks the buckets in key order; keys begin
// with task ids, which sort by time, so that it stops where tasks are too young.
// When a file's task ended longer ago than the limit, the sweep writes to the
// log that the files of that kind are given up. From there on the log's order
// decides: a retry before it makes it void, a retry after it is void for want of
// inputs, and a new task that would work on given-up files is refused (see
// intake.Kept). A later sweep, once the event has been in the log for the grace
// time, deletes the files, unless a task that was accepted before and has not
// ended works on them. The grace time is for whoever looked at the task before
// the event and acts after it, and for the download URLs given out until then.
//
// Every step may be repeated, done twice at once or broken off at any point: the
// next sweep goes on from what it finds. decide.go holds the whole judgement,
// without I/O.
package retention
