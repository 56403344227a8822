package objects

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spillway/spillway/functions"
)

// maxKey is the longest key of S3, in bytes.
const maxKey = 1024

var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func checkBucket(bucket string) error {
	if !bucketPattern.MatchString(bucket) || strings.Contains(bucket, "..") {
		return functions.Invalid("bad_bucket", "%.80q cannot name a bucket", bucket).
			WithHint("use 3 to 63 lower-case letters, digits, '-' or '.'")
	}
	return nil
}

// checkRead accepts every key that S3 allows: others write to buckets too.
func checkRead(bucket, key string) error {
	if err := checkBucket(bucket); err != nil {
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
