// Package serve invokes functions whose containers serve one invocation after
// another: servers on $PORT (HTTP), and programs that speak AWS Lambda's Runtime
// API (Lambda). It knows no engine; what it needs of a container it gets through
// the sockets that the entry program hands over, so that the container needs no
// network.
//
// An invocation ends in one of three ways: a Response; a *Fault that names what
// the function or its container did wrong; or a *Fault that was not Delivered,
// which means that the function has not seen the event and that it may be given
// to another container without running twice.
//
// Whether a container serves again is decided by MayReuse, and nowhere else.
package serve
