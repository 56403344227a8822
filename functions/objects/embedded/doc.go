// Package embedded is an S3 store inside this process, for one machine that has
// no MinIO. It keeps objects as plain files below Root:
//
//	data/<bucket>/<key>   the newest content
//	versions/             older contents, of buckets that keep versions
//	sidecar/              attributes, where the file system holds no xattrs
//
// An object that a client was told of survives a kill at any moment, and a
// power failure of a disk that honours fsync: the file is written apart,
// appears under its name at once, and it and its folders are synced before the
// answer. Then Config.Created is called, and only then the client hears of it.
// An older version that an overwrite moved away is not synced. An upload in
// parts that a kill met while it was being completed is at the next start an
// upload again, with all its parts, unless its object was there already.
//
// # What to know before running it
//
//   - The library changes the working directory of the whole process to Root's
//     data folder and then works with relative paths. So: one store per process,
//     every other path of the process absolute, exec.Cmd.Dir always set, and
//     never os.Chdir or t.Chdir.
//   - One process per Root, which nothing checks: a start removes the half files
//     that it finds.
//   - A key cannot be an object and a folder of objects at once: p and p/q
//     exclude each other, and the later upload gets 409.
//   - A key is a file's name: one that names its file in a roundabout way, with
//     empty, "." or ".." elements, gets 400.
//   - It has no lifecycle rules and no notification configuration. Uploads in
//     parts that nobody completed are removed a day after their last part.
//   - The file of an object is never written to: an overwrite makes another. So
//     Local may hand it out, and tasks may be linked to it for as long as they run.
//   - A checksum that trails the body is misread over plain HTTP; package
//     objects sends none there.
package embedded
