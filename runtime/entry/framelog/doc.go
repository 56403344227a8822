// Package framelog keeps the output of a container in files of bounded size,
// written by one process and followed by another, whatever becomes of either.
//
// A log is frames of package wire: KindStdout and KindStderr, as they came. Its
// first file has the log's own path and takes the first half of the limit; it is
// never written again. What comes after goes to files path.1, path.2 and so on
// of a quarter of the limit each, of which the newest two are kept. So a log
// keeps everything as long as it is within the limit, and beyond it the first
// half of the limit and at least the newest quarter. The limit counts frames'
// headers too, 5 bytes each.
//
// A file that is full ends with KindMore, the whole log with KindEnd. Where
// bytes may be missing (at the head of each file but the first, and where the
// disk was full) stands a KindOmission, whose payload is how many bytes of
// output had come by then: a reader that has seen fewer missed the rest. A frame
// that is cut off at the end of a file was being written when its writer died,
// and is not there.
package framelog
