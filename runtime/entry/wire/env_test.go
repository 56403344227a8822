package wire

import (
	"slices"
	"testing"
)

func TestMergeEnv(t *testing.T) {
	image := []string{"PATH=/bin", "A=image", "NVIDIA_VISIBLE_DEVICES=all"}
	got := MergeEnv(image, []string{"A=1", "B=x=y", "A=2", "NVIDIA_VISIBLE_DEVICES=void"})
	want := []string{"PATH=/bin", "A=2", "NVIDIA_VISIBLE_DEVICES=void", "B=x=y"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if image[1] != "A=image" {
		t.Errorf("the image's list became %q", image)
	}
}
