package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/runtime/entry/wire"
)

// asked is what the arguments of the role hold ask for.
type asked struct {
	api, s3 bool
	conns   int
	command string // to read ahead; empty = none
}

func parseHold(args []string) (asked, bool) {
	var a asked
	for len(args) > 0 {
		switch {
		case args[0] == wire.FlagAPI:
			a.api = true
		case args[0] == wire.FlagS3:
			a.s3 = true
		case args[0] == wire.FlagConns && len(args) > 1:
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > wire.MaxConns {
				return a, false
			}
			a.conns, args = n, args[1:]
		case args[0] == wire.FlagRead && len(args) > 1:
			a.command, args = args[1], args[1:]
		default:
			return a, false
		}
		args = args[1:]
	}
	return a, true
}

// hold waits for orders and carries them out. An entry without an agent ends:
// nobody would ever give it orders.
func hold(args []string) int {
	a, ok := parseHold(args)
	if !ok {
		return fault("hold: wrong arguments")
	}
	// The command has the same user: without this it could take the agent's
	// socket from here by way of /proc, or trace this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fault("protect itself: " + err.Error())
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	to, err := greet(a)
	if err != nil {
		return fault(err.Error())
	}
	if a.command != "" {
		go readAhead(a.command)
	}
	for {
		select {
		case s := <-signals:
			return 128 + int(s.(syscall.Signal))
		case f, ok := <-to.frames:
			switch {
			case !ok:
				return fault("the agent went away before it gave orders")
			case f.kind == wire.KindSignal && len(f.payload) == 1:
				return 128 + int(f.payload[0])
			case f.kind != wire.KindOrders:
				return fault("the agent says what is no order")
			}
			orders, err := wire.ParseOrders(f.payload)
			if err != nil || orders.V != wire.Version || len(orders.Argv) == 0 {
				return fault("the agent's orders cannot be understood")
			}
			return obey(orders, to, signals)
		}
	}
}

// obey carries the orders out.
func obey(orders wire.Orders, to *agent, signals <-chan os.Signal) int {
	c, no := prepare(orders.Argv, wire.MergeEnv(os.Environ(), orders.Env), orders.Dir)
	var r wire.Report
	switch {
	case no != nil:
	case orders.Exec:
		no = c.replace()
	default:
		r, no = supervise(c, to, signals)
	}
	if no != nil {
		os.Stderr.WriteString(no.words + "\n")
		r = wire.Report{Exit: no.code, Error: no.words}
	}
	to.report(r)
	return r.Exit
}
