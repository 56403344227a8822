// Package pool keeps instances that are dear to start and serve one user each:
// they are started before they are wanted, handed out once, and never come back.
//
// Each key has a shelf of idle instances. Get takes the oldest one. When there is
// none it waits in one line with all other callers: an instance is started on its
// behalf at once, and what comes first, that one or one that was under way, goes
// to the oldest caller of the key. Room, which bounds idle and starting instances
// over all keys, goes to the oldest caller of all; for a caller an idle instance
// of another key is given up.
//
// Behind the callers' backs the pool starts instances until each key has as many
// as it wants: a fixed number, or one reckoned from how often it was asked for
// (demand.go). An idle instance that dies is dropped and replaced. A key whose
// instances fail to start, or die at once, is left alone for a while, longer each
// time; callers are told so at once meanwhile.
//
// The pool knows no engine. It is shaped after the connection pool of
// database/sql, with the difference that nothing is ever put back.
package pool
