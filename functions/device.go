package functions

import "strings"

// Device is what an attempt runs on.
type Device string

const (
	CPU Device = "cpu"
	GPU Device = "gpu"
)

// Policy says which devices a task may use. The empty Policy means: as the
// function says; in a Spec it means Auto.
//
// Fastest goes by the medians of the function's earlier tasks of about that size.
// While fewer than three are known of either device it is as Preferred: a free
// GPU is tried first, and what spills tells how long the CPU takes.
type Policy string

const (
	Required  Policy = "required"  // a GPU, or the task fails
	Preferred Policy = "preferred" // a GPU when one can be had, else the CPU
	Auto      Policy = "auto"      // the content type decides: preferred or never
	Fastest   Policy = "fastest"   // a GPU or the CPU, where the task is expected to be done first
	Never     Policy = "never"     // the CPU
)

// Validate refuses anything but the policies.
func (p Policy) Validate() error {
	switch p {
	case Required, Preferred, Auto, Fastest, Never:
		return nil
	}
	return Invalid("bad_policy", "%q is not a device policy", trim(string(p))).WithHint("use required, preferred, auto, fastest or never")
}

// ContentClass is the coarse kind of a content type, the unit of routing.
type ContentClass string

const (
	Audio    ContentClass = "audio"
	Video    ContentClass = "video"
	Image    ContentClass = "image"
	Document ContentClass = "document"
	Data     ContentClass = "data" // JSON and everything else
)

// documentTypes are application/* types that are documents. Everything text/*
// is one as well.
var documentTypes = map[string]bool{
	"application/pdf":                                 true,
	"application/msword":                              true,
	"application/rtf":                                 true,
	"application/epub+zip":                            true,
	"application/xhtml+xml":                           true,
	"application/vnd.ms-excel":                        true,
	"application/vnd.ms-powerpoint":                   true,
	"application/vnd.oasis.opendocument.text":         true,
	"application/vnd.oasis.opendocument.spreadsheet":  true,
	"application/vnd.oasis.opendocument.presentation": true,
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document":   true,
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":         true,
	"application/vnd.openxmlformats-officedocument.presentationml.presentation": true,
}

// ClassOf maps a media type, parameters ignored, to its class.
func ClassOf(mediaType string) ContentClass {
	t, _, _ := strings.Cut(strings.ToLower(mediaType), ";")
	t = strings.TrimSpace(t)
	switch major, _, _ := strings.Cut(t, "/"); {
	case major == "audio":
		return Audio
	case major == "video":
		return Video
	case major == "image":
		return Image
	case major == "text", documentTypes[t]:
		return Document
	}
	return Data
}

// GainsFromGPU reports whether content of class c is worth a GPU under Auto.
func (c ContentClass) GainsFromGPU() bool { return c == Audio || c == Video || c == Image }

// Route is the device decision made when a task is accepted, with its grounds.
// It says what to try first; where the task really runs is decided at launch.
type Route struct {
	ContentType string       `json:"content_type,omitempty"` // the type that was believed
	Class       ContentClass `json:"class,omitempty"`
	Declared    string       `json:"declared,omitempty"`  // what the client said
	Sniffed     string       `json:"sniffed,omitempty"`   // what the bytes say
	Extension   string       `json:"extension,omitempty"` // of the file name, with its dot
	Policy      Policy       `json:"policy"`              // in force for this task
	Device      Device       `json:"device"`              // to try first
	Reason      string       `json:"reason"`              // one sentence
}

// Decide fills r.Class, r.Device and r.Reason from r.ContentType and r.Policy.
func (r Route) Decide() Route {
	if r.ContentType != "" {
		r.Class = ClassOf(r.ContentType)
	}
	what := r.ContentType
	if what == "" {
		what = "no content"
	}
	switch r.Policy {
	case Required:
		r.Device, r.Reason = GPU, "policy required: a GPU or nothing"
	case Preferred:
		r.Device, r.Reason = GPU, "policy preferred: a GPU first"
	case Fastest:
		r.Device, r.Reason = GPU, "policy fastest: where it is expected to be done first"
	case Never:
		r.Device, r.Reason = CPU, "policy never: CPU only"
	default:
		r.Policy = Auto
		if r.Class.GainsFromGPU() {
			r.Device, r.Reason = GPU, "policy auto: "+string(r.Class)+" ("+what+") gains from a GPU"
		} else {
			r.Device, r.Reason = CPU, "policy auto: "+what+" does not gain from a GPU"
		}
	}
	return r
}
