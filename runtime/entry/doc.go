// Package entry is the agent's side of the entry program: a static binary of
// under 2 MB that is mounted into containers as their first process. It waits
// for orders on a socket of the container's own, so that a container can be
// started before its task is known; it reports an exit within milliseconds; and
// it hands over listening sockets, so that a container without a network can be
// served.
//
// Install puts the program on this machine, once. For each container: NewDoor,
// whose Mounts and Command go into its spec; create and start it; Accept gives
// the Session of an entry program that waits. Start gives it orders, Wait tells
// how they ended. Close both when the container is gone.
//
// The program itself is in program, what both sides say in wire. The binary is
// embedded from bin: "make entry" builds it there.
package entry
