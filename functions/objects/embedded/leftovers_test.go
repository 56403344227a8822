package embedded_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

var both = map[string]bool{"xattrs": false, "side-car files": true}

// pieces are two parts that are large enough and one that need not be.
func pieces(seed byte) [][]byte {
	return [][]byte{bytes.Repeat([]byte{seed}, 5<<20), bytes.Repeat([]byte{seed + 1}, 5<<20), {seed + 2}}
}

// inParts is an upload in parts, and what the store says of its parts.
type inParts struct {
	ref   functions.ObjectRef
	id    string
	parts []functions.Part
}

func sendParts(t *testing.T, st *objects.Store, key string, data [][]byte) inParts {
	t.Helper()
	if err := st.EnsureBucket(t.Context(), "uploads"); err != nil {
		t.Fatal(err)
	}
	u := inParts{ref: functions.ObjectRef{Bucket: "uploads", Key: key, ContentType: "video/mp4"}}
	var err error
	if u.id, err = st.NewMultipart(t.Context(), u.ref, false); err != nil {
		t.Fatal(err)
	}
	for i, part := range data {
		signed, err := st.PresignPart(t.Context(), u.ref, u.id, i+1, int64(len(part)), "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), signed.Method, signed.URL, bytes.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("part %d: %s", i+1, resp.Status)
		}
	}
	if u.parts, err = st.Parts(t.Context(), u.ref, u.id); err != nil || len(u.parts) != len(data) {
		t.Fatalf("the store has %d parts, %v, want %d", len(u.parts), err, len(data))
	}
	return u
}

// wantObject compares the object's content.
func (u inParts) wantObject(t *testing.T, st *objects.Store, data [][]byte) {
	t.Helper()
	r, err := st.Get(t.Context(), u.ref)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, bytes.Join(data, nil)) {
		t.Errorf("the object has %d bytes, %v, and not the upload's", len(got), err)
	}
}

func (u inParts) wantParts(t *testing.T, st *objects.Store) {
	t.Helper()
	if got, err := st.Parts(t.Context(), u.ref, u.id); err != nil || !reflect.DeepEqual(got, u.parts) {
		t.Errorf("the store has parts %v, %v, want %v", got, err, u.parts)
	}
}

// folder is the upload's, below root's data or sidecar.
func (u inParts) folder(t *testing.T, root, tree string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, tree, "uploads", ".sgwtmp", "multipart", "*", u.id))
	if err != nil || len(found) != 1 {
		t.Fatalf("folders of the upload are %q, %v, want one", found, err)
	}
	return found[0]
}

// claimed is what the folder is called while the upload is being completed.
func (u inParts) claimed(t *testing.T, folder string) string {
	t.Helper()
	var sums []byte
	for _, p := range u.parts {
		sum, err := hex.DecodeString(p.ETag)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum...)
	}
	return fmt.Sprintf("%s.%x-%d.inprogress", folder, md5.Sum(sums), len(u.parts))
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// below lists what the store keeps of unfinished uploads, in root's tree.
func below(t *testing.T, root, tree string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, tree, "uploads", ".sgwtmp", "multipart", "*"))
	must(t, err)
	return found
}

func TestAnUploadThatWasBeingCompletedIsOneAgain(t *testing.T) {
	for name, sidecar := range both {
		for _, renamed := range []string{"all", "the parts alone", "all, and a part came then"} {
			t.Run(name+", "+renamed, func(t *testing.T) {
				root := t.TempDir()
				st, _, stop := run(t, embedded.Config{Root: root, SideCar: sidecar})
				data := pieces('a')
				u := sendParts(t, st, "in/a", data)
				must(t, stop())
				trees := []string{"data"}
				if sidecar {
					trees = append(trees, "sidecar")
				}
				for _, tree := range trees {
					if tree == "sidecar" && renamed == "the parts alone" {
						continue
					}
					own := u.folder(t, root, tree)
					claim := u.claimed(t, own)
					must(t, os.Rename(own, claim))
					if strings.HasSuffix(renamed, "then") { // part 2, and the claim has an older one
						must(t, os.Mkdir(own, 0o750), os.Rename(filepath.Join(claim, "2"), filepath.Join(own, "2")))
						must(t, os.WriteFile(filepath.Join(claim, "2"), []byte("old"), 0o600))
					}
				}

				st, _, stop = run(t, embedded.Config{Root: root, SideCar: sidecar})
				u.wantParts(t, st)
				ref, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts)
				if err != nil || ref.ContentType != "video/mp4" {
					t.Errorf("completed as %+v, %v", ref, err)
				}
				u.wantObject(t, st, data)
				must(t, stop())
				// The library leaves a completed upload's side-car files until the next start.
				_, _, stop = run(t, embedded.Config{Root: root, SideCar: sidecar})
				must(t, stop())
				if left := append(below(t, root, "data"), below(t, root, "sidecar")...); len(left) > 0 {
					t.Errorf("left are %q", left)
				}
			})
		}
	}
}

// keep copies the upload's folder in a tree, and returns how to put the copy
// where the library has it during a completion.
func (u inParts) keep(t *testing.T, root, tree string) (claim func()) {
	t.Helper()
	own := u.folder(t, root, tree)
	kept := filepath.Join(t.TempDir(), "kept")
	must(t, os.CopyFS(kept, os.DirFS(own)))
	return func() { must(t, os.CopyFS(u.claimed(t, own), os.DirFS(kept))) }
}

func TestACompletedUploadIsNotOneAgain(t *testing.T) {
	for name, sidecar := range both {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			st, _, stop := run(t, embedded.Config{Root: root, SideCar: sidecar})
			data := pieces('a')
			u, other := sendParts(t, st, "in/a", data), sendParts(t, st, "in/a", pieces('x'))
			claim := u.keep(t, root, "data")
			_, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts)
			must(t, err, stop())
			claim() // the end came while its folder was being removed
			claimed := u.claimed(t, filepath.Join(filepath.Dir(other.folder(t, root, "data")), u.id))
			must(t, os.Remove(filepath.Join(claimed, "1")))

			st, _, stop = run(t, embedded.Config{Root: root, SideCar: sidecar})
			if _, err := os.Stat(claimed); err == nil {
				t.Error("what was left of the upload is still there")
			}
			if _, err := st.Parts(t.Context(), u.ref, u.id); !errors.Is(err, functions.ErrNotFound) {
				t.Errorf("its parts: got %v, want not found", err)
			}
			if _, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts); !errors.Is(err, functions.ErrConflict) {
				t.Errorf("complete again: got %v, want conflict", err)
			}
			u.wantObject(t, st, data)
			other.wantParts(t, st)
			must(t, stop())
		})
	}
}

// Side-car files of an object are written before it is: they alone do not mean
// that it is there.
func TestAttributesWithoutTheirObjectAreNoCompletedUpload(t *testing.T) {
	for name, size := range map[string]int{"no object": -1, "another object, of the same size": 10<<20 + 1, "another object": 3} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			st, _, stop := run(t, embedded.Config{Root: root, SideCar: true})
			data := pieces('a')
			// The other upload keeps the folder of the key.
			u, other := sendParts(t, st, "in/a", data), sendParts(t, st, "in/a", pieces('x'))
			parts, attributes := u.keep(t, root, "data"), u.keep(t, root, "sidecar")
			_, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts)
			must(t, err, stop())
			parts()
			must(t, os.RemoveAll(u.folder(t, root, "sidecar"))) // where the library put it back
			attributes()
			object := filepath.Join(root, "data", "uploads", "in", "a")
			must(t, os.Remove(object))
			if size >= 0 {
				must(t, os.WriteFile(object, make([]byte, size), 0o600))
			}

			st, endpoint, stop := run(t, embedded.Config{Root: root})
			u.wantParts(t, st)
			other.wantParts(t, st)
			var list types.CompletedMultipartUpload
			for _, p := range u.parts {
				list.Parts = append(list.Parts, types.CompletedPart{PartNumber: aws.Int32(int32(p.Number)), ETag: &p.ETag})
			}
			_, err = client(endpoint).CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
				Bucket: &u.ref.Bucket, Key: &u.ref.Key, UploadId: &u.id, MultipartUpload: &list,
			})
			must(t, err)
			u.wantObject(t, st, data)
			must(t, stop())
		})
	}
}

func TestHalfFilesGoAtStart(t *testing.T) {
	root := t.TempDir()
	st, _, stop := run(t, embedded.Config{Root: root})
	data := pieces('a')
	u := sendParts(t, st, "in/a", data)
	must(t, stop())
	half := strings.Repeat("0f", 32) + ".123456789"
	tmp := filepath.Join(root, "data", "uploads", ".sgwtmp")
	versions := filepath.Join(root, "versions", "uploads", ".sgwtmp")
	must(t, os.MkdirAll(versions, 0o750))
	dead := []string{
		filepath.Join(tmp, half), filepath.Join(versions, half), filepath.Join(filepath.Dir(u.folder(t, root, "data")), half),
	}
	object := filepath.Join(root, "data", "uploads", half) // a client may call one so
	for _, path := range append(slices.Clone(dead), object) {
		must(t, os.WriteFile(path, []byte("half"), 0o600))
	}
	st, _, stop = run(t, embedded.Config{Root: root})
	for _, path := range dead {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := os.Stat(object); err != nil {
		t.Error(err)
	}
	u.wantParts(t, st)
	must(t, stop())
}

// After a kill during a completion the upload is there with all its parts, or
// the object is.
func TestKillDuringACompletion(t *testing.T) {
	root := t.TempDir()
	data := [][]byte{bytes.Repeat([]byte("a"), 24<<20), bytes.Repeat([]byte("b"), 24<<20)}
	for round, again := 0, true; again && round < 5; round++ {
		srv := objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root})
		st := srv.New(t)
		u := sendParts(t, st, fmt.Sprintf("in/%d", round), data)
		claimed := u.claimed(t, u.folder(t, root, "data"))
		answer := make(chan error, 1)
		go func() {
			_, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts)
			answer <- err
		}()
		var answered error
		for waiting := true; waiting; {
			select {
			case answered = <-answer:
				waiting = false
			default:
				_, err := os.Stat(claimed)
				waiting = err != nil
			}
		}
		srv.Kill()
		_, err := os.Stat(claimed)
		again = err != nil // it was too late to leave something
		t.Logf("round %d: something is left: %t; answer: %v", round, !again, answered)

		srv = objectstest.Embedded(t, objectstest.EmbeddedOptions{Root: root})
		st = srv.New(t)
		_, err = st.Stat(t.Context(), u.ref.Bucket, u.ref.Key, "")
		switch {
		case errors.Is(err, functions.ErrNotFound):
			u.wantParts(t, st)
			if _, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts); err != nil {
				t.Error(err)
			}
		case err != nil:
			t.Error(err)
		default:
			if _, err := st.CompleteMultipart(t.Context(), u.ref, u.id, u.parts); !errors.Is(err, functions.ErrConflict) {
				t.Errorf("complete again: got %v, want conflict", err)
			}
		}
		u.wantObject(t, st, data)
		srv.Kill()
	}
}
