// Package taskdb is the projection of the task log that everything is read
// from: one SQLite file per server, written by Apply alone, rebuilt from the
// log at any time. It is the only importer of the SQLite driver.
//
// # The life of a batch
//
// Apply takes the records of whole log messages in log order. It loads the
// tasks and idempotency keys that they name, folds the events in memory
// (fold.go, with functions.Accept and Task.Apply, the code that every reader of
// the log shares), and writes the result in one transaction: the rows, the
// counters, the epoch, and the place in the log that has been reached. A crash
// therefore loses whole batches only, and the log still has them: reading on
// after Applied gives the same state as if nothing had happened.
//
// An event that fails its guard changes nothing and is counted (VoidEvents).
// A hole in the log is an error, because a projection with a hole would decide
// differently from its peers for ever.
package taskdb
