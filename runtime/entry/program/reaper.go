package main

import "syscall"

// passing is how a child ended.
type passing struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

// reaper keeps how children ended that nobody has asked for yet: a container's
// process may end before the runtime that started it.
type reaper struct {
	ended map[int]passing
}

// wait reaps whatever ends until pid has. A pid that is no child any more has
// ended as if it had been killed: nothing better is known of it.
func (r *reaper) wait(pid int) passing {
	for {
		if e, ok := r.ended[pid]; ok {
			return e
		}
		var e passing
		child, err := syscall.Wait4(-1, &e.status, 0, &e.usage)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return passing{status: syscall.WaitStatus(syscall.SIGKILL)}
		default:
			if r.ended == nil {
				r.ended = map[int]passing{}
			}
			r.ended[child] = e
		}
	}
}
