package functions

import (
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// ObjectRef names one stored object, and what is known of its content.
type ObjectRef struct {
	Bucket      string `json:"bucket,omitempty"`
	Key         string `json:"key,omitempty"`
	VersionID   string `json:"version_id,omitempty"`
	ETag        string `json:"etag,omitempty"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type,omitempty"`
	SHA256      string `json:"sha256,omitempty"` // hex; empty = not known
}

// Input is a file that is staged for the container as in/Name. It is the object,
// unless File or URL says where else the content is; then bucket and key are
// empty, and size and type are what was seen when the task was accepted.
type Input struct {
	Name string `json:"name"`
	ObjectRef
	File string `json:"file,omitempty"` // SHARE/path in a folder that nodes have mounted
	URL  string `json:"url,omitempty"`  // http or https, fetched by the node
}

// UnknownSize is the size of a file whose sender could not tell it beforehand.
const UnknownSize = -1

// Output is a file that a successful attempt left.
type Output struct {
	Name string `json:"name"` // relative to the output folder, slash separated
	ObjectRef
}

// FileName checks a name that a client gave a file. It must be one path
// element of valid UTF-8 without control characters and at most 255 bytes, the
// longest name that Linux file systems hold.
func FileName(name string) error {
	bad := func(why string) error {
		return Invalid("bad_file_name", "%q cannot name a file: %s", trim(strings.ToValidUTF8(name, "?")), why).
			WithHint("send the base name alone, such as speech.wav").WithField("name")
	}
	switch {
	case name == "" || name == "." || name == "..":
		return bad("it is empty or a folder")
	case len(name) > 255:
		return bad("it is over 255 bytes")
	case !utf8.ValidString(name):
		return bad("it is not UTF-8")
	case strings.ContainsAny(name, "/\\"):
		return bad("it holds a path separator")
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return bad("it holds a control character")
	}
	return nil
}

// OutputName checks the relative path of a file that a container left.
func OutputName(name string) error {
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || len(name) > 900 {
		return Invalid("bad_output_name", "%q cannot name an output", trim(name))
	}
	for elem := range strings.SplitSeq(name, "/") {
		if err := FileName(elem); err != nil {
			return err
		}
	}
	return nil
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// BucketName checks the name of a bucket, as S3 has it.
func BucketName(bucket string) error {
	if !bucketName.MatchString(bucket) || strings.Contains(bucket, "..") {
		return Invalid("bad_bucket", "%.80q cannot name a bucket", bucket).
			WithHint("use 3 to 63 lower-case letters, digits, '-' or '.'")
	}
	return nil
}

// PresignedRequest is a request that its holder may send to the object store
// without a key, exactly as it stands: the headers are part of the signature.
type PresignedRequest struct {
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers,omitempty"`
	ExpiresAt time.Time         `json:"expires_at"`
}
