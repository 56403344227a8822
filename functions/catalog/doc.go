// Package catalog holds no code of its own: its folders are the functions that
// Spillway ships, each with its spec, its program and a README, and the packages
// that they share.
//
//	echo          JSON in, JSON out
//	thumbnail     a small picture of a picture
//	media-info    what a sound or a film is
//	waveform      a sound, drawn and measured; a film, previewed
//	extract-text  the text of a document
//	transcribe    what is said in a sound (Python, needs its own base image)
//
//	task          the contract between the platform and a Go program
//	media         ffmpeg and ffprobe
package catalog
