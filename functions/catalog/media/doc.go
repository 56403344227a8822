// Package media drives ffmpeg and ffprobe for the functions that need them.
//
// The two programs are found in PATH. What they say about a file that they
// cannot read becomes a task.Fault, so that a caller learns that the input is no
// media and not that some program exited with 1. Limits of time are the
// platform's: a command ends when the container does.
package media
