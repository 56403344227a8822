package images

import (
	"slices"

	"github.com/spillway/spillway/images/debian"
)

// group is images that share their lower layer, and go to the engine together.
type group struct {
	name      string
	layer     *debian.Config // nil for static programs
	env       []string
	functions []string
}

// shipped are the functions whose images are made from one program each; a
// program is named like its function. transcribe is not among them: it has a
// Dockerfile, because its packages come from elsewhere.
var shipped = []group{
	{name: "static", functions: []string{"echo", "thumbnail"}},
	{name: "documents", functions: []string{"extract-text"}, layer: &debian.Config{
		Packages: []string{"base-files", "poppler-utils", "poppler-data"},
		Without:  withoutShell,
	}},
	{name: "media", functions: []string{"media-info", "waveform"},
		// What NVIDIA's toolkit shall put into the container when there is a GPU:
		// video is its decoders and encoders.
		env: []string{"NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"},
		layer: &debian.Config{
			Packages: []string{"base-files", "ffmpeg", "fonts-dejavu-core"},
			Without:  slices.Concat(withoutShell, withoutDisplay),
			Links: map[string]string{
				"/usr/lib/x86_64-linux-gnu/libblas.so.3":    "blas/libblas.so.3",
				"/usr/lib/x86_64-linux-gnu/liblapack.so.3":  "lapack/liblapack.so.3",
				"/usr/lib/aarch64-linux-gnu/libblas.so.3":   "blas/libblas.so.3",
				"/usr/lib/aarch64-linux-gnu/liblapack.so.3": "lapack/liblapack.so.3",
			},
		}},
}

var (
	// withoutShell is what only maintainer scripts need.
	withoutShell = []string{"debconf", "mawk", "lsb-base", "sysvinit-utils", "x11-common", "shared-mime-info", "perl-base", "ucf", "sed"}
	// withoutDisplay is what would draw on a screen, loaded only when there is
	// one: a third of ffmpeg's dependencies by size.
	withoutDisplay = []string{"libgl1-mesa-dri", "libllvm15", "libllvm19", "libz3-4", "libglx-mesa0", "xkb-data", "libsensors5", "libsensors-config"}
)

// ref is the name under which function.yaml asks for a shipped image.
func ref(function string) string { return "spillway/" + function + ":latest" }
