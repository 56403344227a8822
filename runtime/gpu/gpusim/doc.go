// Package gpusim rehearses a GPU host: devices that are not there, and faults on
// demand.
//
// A Host is one machine's simulated devices. Its readings have the shape of those
// of a real probe, and around any driver it makes one that launches what asks for
// GPUs as a plain container, with everything else that a GPU attempt has. Launches
// and runs fail as the Faults say, in the words of the engines, drivers and
// programs that fail so on real hosts: what reads those words is what is rehearsed.
package gpusim
