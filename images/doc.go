// Package images makes container images without a container engine.
//
// Build turns files of this machine into an image: on top of nothing for a
// static program, or on top of another image or of a layer of Debian packages
// (package debian). The same input gives the same image, bit for bit: times are
// fixed, owners are root, and the order of files is their order by name.
// WriteArchives writes images as the archive that `docker load` reads.
//
// Package store keeps images on a machine, for drivers that have no engine;
// package credentials finds what registries ask for.
//
// BuildCatalog does all of this for the functions that Spillway ships.
package images
