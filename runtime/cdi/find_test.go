package cdi

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	dirs := folder(t, map[string]string{"nvidia.yaml": fakeGPUs, "note.txt": "no specification", "nic.yaml": "cdiVersion: \"0.5.0\"\nkind: vendor.com/nic\ndevices: [{name: \"0\", containerEdits: {env: [A=1]}}]\n"})
	found, err := Find(dirs)
	if err != nil || len(found) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, want := range []Found{{Name: "0"}, {Name: "GPU-1"}, {Name: "gone", Missing: []string{"/dev/no-such-device"}}} {
		got := found[i]
		if got.Name != want.Name || got.File != filepath.Join(dirs[0], "nvidia.yaml") || !slices.Equal(got.Missing, want.Missing) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	// What a driver's upgrade leaves behind: a library that every device brings.
	old := folder(t, map[string]string{"nvidia.yaml": `
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices: [{name: GPU-1, containerEdits: {deviceNodes: [{path: /dev/null}]}}]
containerEdits:
  mounts:
  - {hostPath: /usr/lib/libcuda.so.1.2, containerPath: /usr/lib/libcuda.so.1.2, options: [ro, bind]}
  - {hostPath: tmpfs, containerPath: /x, type: tmpfs}
`})
	if found, err = Find(old); err != nil || len(found) != 1 || !slices.Equal(found[0].Missing, []string{"/usr/lib/libcuda.so.1.2"}) {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err = Find(folder(t, map[string]string{"a.yaml": fakeGPUs, "broken.yaml": "cdiVersion: ["})); err == nil || len(found) != 3 {
		t.Errorf("one that cannot be read: %+v, %v", found, err)
	}
	if found, err = Find([]string{"/no/such/folder"}); err != nil || len(found) != 0 {
		t.Errorf("no folder: %+v, %v", found, err)
	}
}
