package store

import (
	"encoding/json"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway/spillway/functions"
)

// archived is an image of an archive.
type archived struct {
	manifest
	names []string
}

// images reads what images an archive has.
func (a *archive) images() ([]archived, error) {
	switch {
	case a.has("/manifest.json"): // docker save, of every version
		return a.saved()
	case a.has("/index.json"):
		return a.laidOut()
	}
	return nil, badArchive("it has no manifest.json and no index.json")
}

// saved reads the table of docker save.
func (a *archive) saved() ([]archived, error) {
	data, err := a.document("manifest.json")
	if err != nil {
		return nil, err
	}
	var table []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(data, &table); err != nil {
		return nil, badArchive("manifest.json is no table of images: %v", err)
	}
	var all []archived
	for _, row := range table {
		img, err := a.image(row.Config, row.Layers)
		if err != nil {
			return nil, err
		}
		all = append(all, archived{img, row.RepoTags})
	}
	return all, nil
}

// Names of an image in an OCI layout: containerd's, which is whole, and the
// standard's, which may be a tag alone.
const (
	nameContainerd = "io.containerd.image.name"
	nameStandard   = "org.opencontainers.image.ref.name"
)

// laidOut reads an OCI layout.
func (a *archive) laidOut() ([]archived, error) {
	var index v1.IndexManifest
	if err := a.decode("index.json", &index); err != nil {
		return nil, err
	}
	var all []archived
	for _, d := range index.Manifests {
		img, err := a.described(d, 0)
		if err != nil {
			return nil, err
		}
		var names []string
		if n := d.Annotations[nameContainerd]; n != "" {
			names = []string{n}
		} else if n := d.Annotations[nameStandard]; strings.ContainsAny(n, "/:") {
			names = []string{n}
		}
		all = append(all, archived{img, names})
	}
	return all, nil
}

// described reads the image that a descriptor means; of one for several platforms
// this machine's.
func (a *archive) described(d v1.Descriptor, depth int) (manifest, error) {
	if d.MediaType.IsIndex() {
		var index v1.IndexManifest
		if err := a.decode(blobPath(d.Digest), &index); err != nil {
			return manifest{}, err
		}
		for _, of := range index.Manifests {
			if depth < 3 && (of.Platform == nil || of.Platform.Satisfies(platform())) {
				return a.described(of, depth+1)
			}
		}
		return manifest{}, functions.NotFound("image_platform", "the archive has an image that is not made for %s", platform())
	}
	var m v1.Manifest
	if err := a.decode(blobPath(d.Digest), &m); err != nil {
		return manifest{}, err
	}
	layers := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = blobPath(l.Digest)
	}
	return a.image(blobPath(m.Config.Digest), layers)
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

func (a *archive) decode(name string, v any) error {
	data, err := a.document(name)
	if err == nil && json.Unmarshal(data, v) != nil {
		err = badArchive("%q is not what it should be", short(name))
	}
	return err
}

// image makes an image of files.
func (a *archive) image(config string, layers []string) (manifest, error) {
	raw, err := a.document(config)
	if err != nil {
		return manifest{}, err
	}
	all := make([]*fetching, len(layers))
	for i, l := range layers {
		all[i] = &fetching{open: func() (io.ReadCloser, error) { return a.open(l) }}
	}
	return newManifest(raw, all)
}
