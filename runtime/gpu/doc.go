// Package gpu keeps the devices of one node: who holds which, and which of them
// are fit to be tried.
//
// A device is free, then leased to one task, then free again. A device that
// fails twice in a row is quarantined for a while, and so is the whole host when
// its launches fail for a cause of its own: tasks then go elsewhere at once
// instead of failing one by one. A quarantine that has run out admits one trial;
// its success ends the quarantine, its failure doubles it.
//
// The package does arithmetic only. It finds no devices and touches none.
package gpu
