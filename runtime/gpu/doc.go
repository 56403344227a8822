// Package gpu keeps the devices of one node: who holds which, how much of each
// is left, and which of them are fit to be tried.
//
// A device is a GPU or a MIG instance of one. A task that declares how much
// memory it needs shares a device with others that do; one that declares nothing
// has it alone. Two accounts say what is left: the promises made to tasks that
// hold the device, and the last reading of its memory, which knows of everybody
// else's processes. The smaller one counts. Whether a device takes a claim is
// GPUInfo.Takes on what Snapshot tells of it, on a node and on a leader alike.
//
// A device that fails twice in a row is quarantined for a while, and so is the
// whole host when its launches fail for a cause of its own: tasks then go
// elsewhere at once instead of failing one by one. A quarantine that has run out
// admits one trial; its success ends the quarantine, its failure doubles it. A
// device that the driver reports as sick is ejected: time alone does not heal it.
//
// The package does arithmetic only. It finds no devices and touches none.
package gpu
