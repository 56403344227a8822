package runtime

import (
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
	"pgregory.net/rapid"
)

// cuda122 is what NVIDIA's image of CUDA 12.2 asks for, shortened.
const cuda122 = "cuda>=12.2 brand=tesla,driver>=450,driver<451 brand=tesla,driver>=525,driver<526 brand=nvidia,driver>=525,driver<526"

func TestUnsuited(t *testing.T) {
	host := func(driver, cuda string) functions.GPUHostInfo {
		return functions.GPUHostInfo{Driver: driver, CUDA: cuda}
	}
	for name, c := range map[string]struct {
		env    []string
		labels map[string]string
		need   *functions.GPUNeed
		host   functions.GPUHostInfo
		words  string // of the reason; empty = it suits
	}{
		"no requirement":                 {env: []string{"PATH=/bin"}, host: host("470.82.01", "11.4")},
		"new enough":                     {env: []string{"NVIDIA_REQUIRE_CUDA=" + cuda122}, host: host("535.104.05", "12.2")},
		"too old":                        {env: []string{"NVIDIA_REQUIRE_CUDA=" + cuda122}, host: host("515.65.01", "11.7"), words: "driver 515.65.01 with CUDA 11.7"},
		"an alternative by driver":       {env: []string{"NVIDIA_REQUIRE_CUDA=" + cuda122}, host: host("525.85.12", "12.0")},
		"beside the alternatives":        {env: []string{"NVIDIA_REQUIRE_CUDA=" + cuda122}, host: host("526.0", "12.0"), words: "NVIDIA_REQUIRE_CUDA"},
		"two digits are more than one":   {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=12.10"}, host: host("560.1", "12.9"), words: "12.10"},
		"a newer CUDA in one number":     {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=12"}, host: host("535.1", "12.0")},
		"switched off":                   {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=true"}, host: host("535.1", "12.2")},
		"switched off by a number":       {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=1"}, host: host("535.1", "12.2")},
		"not switched off":               {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=false"}, host: host("535.1", "12.2"), words: "cuda>=13.0"},
		"not switched off by a word":     {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=please"}, host: host("535.1", "12.2"), words: "cuda>=13.0"},
		"each variable counts":           {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=11.0", "NVIDIA_REQUIRE_DRIVER=driver>=550"}, host: host("535.1", "12.2"), words: "NVIDIA_REQUIRE_DRIVER"},
		"every condition counts":         {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=11.0,driver>=550"}, host: host("535.1", "12.2"), words: "driver>=550"},
		"a brand is not judged":          {env: []string{"NVIDIA_REQUIRE_CUDA=brand=grid"}, host: host("535.1", "12.2")},
		"an architecture is not judged":  {env: []string{"NVIDIA_REQUIRE_ARCH=arch>=9.0"}, host: host("535.1", "12.2")},
		"a foreign brand, but too old":   {env: []string{"NVIDIA_REQUIRE_CUDA=brand=tesla,cuda>=13.0"}, host: host("535.1", "12.2"), words: "cuda>=13.0"},
		"nonsense is not judged":         {env: []string{"NVIDIA_REQUIRE_CUDA=cuda~=13 =, !"}, host: host("535.1", "12.2")},
		"empty":                          {env: []string{"NVIDIA_REQUIRE_CUDA="}, host: host("535.1", "12.2")},
		"nothing is known of the host":   {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0"}, labels: map[string]string{LabelMinCUDA: "13.0"}, need: &functions.GPUNeed{MinDriver: "999"}},
		"only the driver is known":       {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0"}, host: host("535.1", "")},
		"unequal":                        {env: []string{"NVIDIA_REQUIRE_DRIVER=driver!=535.1"}, host: host("535.1", "12.2"), words: "driver!=535.1"},
		"equal":                          {env: []string{"NVIDIA_REQUIRE_DRIVER=driver=535.1"}, host: host("535.1.0", "12.2")},
		"a label of CUDA":                {labels: map[string]string{LabelMinCUDA: "13.0"}, host: host("535.1", "12.2"), words: LabelMinCUDA},
		"a label of the driver":          {labels: map[string]string{LabelMinDriver: "550"}, host: host("535.1", "12.2"), words: LabelMinDriver},
		"labels that are met":            {labels: map[string]string{LabelMinDriver: "535", LabelMinCUDA: "12.2"}, host: host("535.1", "12.2")},
		"a label that says no version":   {labels: map[string]string{LabelMinDriver: "new"}, host: host("535.1", "12.2")},
		"the function's driver":          {need: &functions.GPUNeed{MinDriver: "550.54"}, host: host("535.1", "12.2"), words: "gpu.min_driver asks for 550.54"},
		"the function's CUDA":            {need: &functions.GPUNeed{MinCUDA: "12.4"}, host: host("535.1", "12.2"), words: "gpu.min_cuda asks for 12.4"},
		"the function's, off or not":     {env: []string{"NVIDIA_DISABLE_REQUIRE=1"}, need: &functions.GPUNeed{MinCUDA: "12.4"}, host: host("535.1", "12.2"), words: "gpu.min_cuda"},
		"what the function asks is met":  {need: &functions.GPUNeed{MinDriver: "535", MinCUDA: "12.2"}, host: host("535.1", "12.2")},
		"of two of a name the last wins": {env: []string{"NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.0"}, host: host("535.1", "12.2")},
	} {
		reason, hint := Unsuited(Image{Env: c.env, Labels: c.labels}, c.need, c.host)
		if (reason != "") != (c.words != "") || !strings.Contains(reason, c.words) || (hint != "") != (reason != "") {
			t.Errorf("%s: reason %q, hint %q, want %q", name, reason, hint, c.words)
		}
	}
}

// A driver that is upgraded takes no image away that asks for a least version.
func TestANewerHostRunsWhatAnOlderDid(t *testing.T) {
	version := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.StringMatching(`[1-9]?[0-9]{1,2}`), 1, 3).Draw(t, "numbers"), ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		conditions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"cuda>=", "driver>=", "cuda>", "driver>", "brand="}).Draw(t, "condition") + version.Draw(t, "value")
		}), 1, 6).Draw(t, "conditions")
		text := conditions[0]
		for _, c := range conditions[1:] {
			text += rapid.SampledFrom([]string{",", " "}).Draw(t, "joint") + c
		}
		older, newer := version.Draw(t, "older"), version.Draw(t, "newer")
		a, _ := parseVersion(older)
		b, _ := parseVersion(newer)
		if slices.Compare(a[:], b[:]) > 0 {
			older, newer = newer, older
		}
		img := Image{Env: []string{"NVIDIA_REQUIRE_CUDA=" + text}}
		before, _ := Unsuited(img, nil, functions.GPUHostInfo{Driver: older, CUDA: older})
		after, _ := Unsuited(img, nil, functions.GPUHostInfo{Driver: newer, CUDA: newer})
		if before == "" && after != "" {
			t.Errorf("%q runs on %s and not on %s: %s", text, older, newer, after)
		}
	})
}

// The values come from images that anybody may have made.
func FuzzUnsuited(f *testing.F) {
	for _, seed := range []string{cuda122, "", "cuda>=", ">=12", "cuda>=12.2.3.4.5", "driver<99999999999999999999", "a=b,,c  ,", "cuda=1 \x00 cuda>=\xff"} {
		f.Add(seed, "535.104.05", "12.2")
	}
	f.Fuzz(func(t *testing.T, text, driver, cuda string) {
		img := Image{Env: []string{"NVIDIA_REQUIRE_CUDA=" + text}, Labels: map[string]string{LabelMinCUDA: text}}
		host := functions.GPUHostInfo{Driver: driver, CUDA: cuda}
		reason, hint := Unsuited(img, nil, host)
		if (reason == "") != (hint == "") {
			t.Errorf("reason %q, hint %q", reason, hint)
		}
		if len(reason) > 1024+len(driver)+len(cuda) {
			t.Errorf("a reason of %d bytes", len(reason))
		}
		if _, known := parseVersion(driver); !known {
			if _, known := parseVersion(cuda); !known && reason != "" {
				t.Errorf("refused by a host of which nothing is known: %s", reason)
			}
		}
	})
}
