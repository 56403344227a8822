// Package ingest turns objects that appear in a store into tasks.
//
// Whatever learns of a new object makes a Hint of it and calls Offer: the
// embedded store's own report, MinIO's webhooks (Hook), a queue that AWS fills
// (Message), the outputs of tasks that succeeded (results.go), and the listing
// that Run repeats. A hint carries no authority. Offer asks the store what is
// really there, finds the functions whose triggers match, and accepts one task
// for each, through the door that every other entrance uses. The task's key is
// the object's identity, so that any number of hints, in any order and from any
// number of servers, start one task for each function and object version:
//
//	s3|bucket|key|version        in a bucket that keeps versions
//	s3|bucket|key|etag|size      in any other
//
// Hints may be lost; they only make it fast. What makes it sure is Run: it lists
// the triggered buckets at start and every minute, and offers what has no task.
// How far that has come is a mark for each function, kept in the log's store:
// every object stored before it has been offered, however long the servers were
// away. The mark moves only after a listing of all the function's places in
// which nothing failed that may work later.
//
// What was stored before a function had a trigger for it is left alone, until
// someone asks for a backfill. An event that comes late starts whatever is in
// force when it comes.
//
// An object in the uploads bucket under in/<task id>/ is not a trigger's but the
// file that this task waits for: Offer then tells the door that it arrived. Those
// whose hint was lost are found by the gateway's sweep of awaiting tasks.
//
// Objects of the results bucket start other functions only once their task has
// succeeded: the store knows of them before, so its events do not count, and the
// log says when. The new task names its parent and its depth; no function starts
// on its own outputs, and a chain ends at Config.MaxDepth. It is the outputs in
// the log that count: a task with so many that the log names but the first of
// them starts others by those, and by the list that it leaves. What a function with
// network access writes to another bucket by itself cannot be traced to it: a
// trigger there may go in circles.
//
// That an object was removed cancels nothing: its task may be running by then,
// with the file already there. One that is not fails as input_gone.
package ingest
