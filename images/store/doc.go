// Package store keeps container images on this machine without a container
// engine: pulled from a registry or loaded from an archive, and unpacked, each
// layer once, into folders that overlayfs takes as lower folders.
//
// Several processes may use one folder at the same time. What they must agree on
// is on disk, never in memory, and their claims are file locks, which the kernel
// takes back from a process that dies:
//
//	names/      which image a name means
//	images/     one file for each image: its configuration and its layers
//	layers/     unpacked layers by the digest of their tar stream
//	locks/      who holds an image, or needs a layer for a pull
//	tmp/        what is not finished, or is being deleted
//
// A layer, an image and a name come into being by one rename each, in that order,
// so that a process that is killed leaves each of them whole or not at all.
package store
