package objects

import (
	"strings"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
)

// maxKey is the longest key of S3, in bytes.
const maxKey = 1024

// checkRead accepts every key that S3 allows: others write to buckets too.
func checkRead(bucket, key string) error {
	if err := functions.BucketName(bucket); err != nil {
		return err
	}
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return functions.Invalid("bad_key", "%.80q cannot name an object", strings.ToValidUTF8(key, "?"))
	}
	return nil
}

// checkWrite accepts the keys that also name a file below a folder, because a
// store may keep objects as files.
func checkWrite(bucket, key string) error {
	if err := checkRead(bucket, key); err != nil {
		return err
	}
	for elem := range strings.SplitSeq(key, "/") {
		if elem == "" || elem == "." || elem == ".." || len(elem) > 255 ||
			strings.ContainsFunc(elem, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return functions.Invalid("bad_key", "%.80q cannot name a new object", key).
				WithHint("use names separated by single slashes, without control characters")
		}
	}
	return nil
}
