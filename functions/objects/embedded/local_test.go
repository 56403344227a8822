package embedded_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects/embedded"
)

func TestLocalFiles(t *testing.T) {
	old := syscall.Umask(0o077) // what others may read must not depend on it
	t.Cleanup(func() { syscall.Umask(old) })
	root := t.TempDir()
	st, endpoint, _ := run(t, embedded.Config{Root: root})
	local := &embedded.Local{Root: root}
	if err := st.EnsureBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	put := func(key string, data []byte) functions.ObjectRef {
		t.Helper()
		ref, err := st.Put(t.Context(), "bucket", key, bytes.NewReader(data), int64(len(data)), "")
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	is := func(f *os.File, data []byte) {
		t.Helper()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v; want %d others", len(got), err, len(data))
		}
	}
	large := make([]byte, 20<<20) // in parts
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	for key, data := range map[string][]byte{"empty": nil, "in/folder/ä b+c": []byte("hello"), "large": large} {
		f, err := local.Open(put(key, data))
		if err != nil {
			t.Fatalf("open %s: %v", key, err)
		}
		is(f, data)
		if info, err := f.Stat(); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s has mode %v, %v", key, info.Mode(), err)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			t.Errorf("%s was opened for writing", key)
		}
		f.Close()
	}

	// What is open stays what it was.
	first := put("k", []byte("first"))
	f, err := local.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	second := put("k", []byte("later"))
	is(f, []byte("first"))
	if err := st.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	is(f, []byte("first"))

	second = put("k", []byte("later"))
	quoted := second
	quoted.ETag = `"` + second.ETag + `"`
	f2, err := local.Open(quoted)
	if err != nil {
		t.Fatal(err)
	}
	f2.Close()
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "data", "bucket", "out")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "data", "bucket", "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	change := func(change func(*functions.ObjectRef)) functions.ObjectRef {
		ref := second
		change(&ref)
		return ref
	}
	for name, c := range map[string]struct {
		ref   functions.ObjectRef
		class error
	}{
		"replaced":         {first, functions.ErrConflict},
		"another size":     {change(func(r *functions.ObjectRef) { r.Size++ }), functions.ErrConflict},
		"another version":  {change(func(r *functions.ObjectRef) { r.VersionID = "01ABC" }), functions.ErrConflict},
		"no ETag":          {change(func(r *functions.ObjectRef) { r.ETag = "" }), functions.ErrUnavailable},
		"no such key":      {change(func(r *functions.ObjectRef) { r.Key = "no" }), functions.ErrNotFound},
		"no such bucket":   {change(func(r *functions.ObjectRef) { r.Bucket = "no" }), functions.ErrNotFound},
		"no bucket":        {change(func(r *functions.ObjectRef) { r.Bucket = "" }), functions.ErrNotFound},
		"no key":           {change(func(r *functions.ObjectRef) { r.Key = "" }), functions.ErrNotFound},
		"a folder":         {change(func(r *functions.ObjectRef) { r.Key = "in/folder" }), functions.ErrNotFound},
		"below an object":  {change(func(r *functions.ObjectRef) { r.Key = "k/k" }), functions.ErrNotFound},
		"above the store":  {change(func(r *functions.ObjectRef) { r.Key = "../../../etc/passwd" }), functions.ErrNotFound},
		"another bucket":   {change(func(r *functions.ObjectRef) { r.Bucket = ".." }), functions.ErrNotFound},
		"absolute":         {change(func(r *functions.ObjectRef) { r.Bucket, r.Key = "/etc", "passwd" }), functions.ErrNotFound},
		"a link out":       {change(func(r *functions.ObjectRef) { r.Key = "out" }), functions.ErrNotFound},
		"a pipe":           {change(func(r *functions.ObjectRef) { r.Key = "pipe" }), functions.ErrNotFound},
		"a part of upload": {change(func(r *functions.ObjectRef) { r.Key = ".sgwtmp/multipart/x" }), functions.ErrNotFound},
	} {
		if f, err := local.Open(c.ref); !errors.Is(err, c.class) {
			t.Errorf("%s: %v, %v; want %v", name, f, err, c.class)
		}
	}

	// With versions, the newest alone is a file here.
	_, err = client(endpoint).PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String("bucket"), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	v1 := put("v", []byte("same"))
	held, err := local.Open(v1)
	if err != nil || v1.VersionID == "" {
		t.Fatalf("open version %q: %v", v1.VersionID, err)
	}
	defer held.Close()
	v2 := put("v", []byte("same"))
	if _, err := local.Open(v1); !errors.Is(err, functions.ErrConflict) {
		t.Errorf("an older version of the same content: %v", err)
	}
	f3, err := local.Open(v2)
	if err != nil {
		t.Fatal(err)
	}
	is(f3, []byte("same"))
	is(held, []byte("same"))
	f3.Close()
}

func TestAttributesBesideTheFilesAreNotTrusted(t *testing.T) {
	root := t.TempDir()
	st, _, _ := run(t, embedded.Config{Root: root, SideCar: true})
	if err := st.EnsureBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	ref, err := st.Put(t.Context(), "bucket", "k", strings.NewReader("x"), 1, "")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := (&embedded.Local{Root: root}).Open(ref); !errors.Is(err, functions.ErrUnavailable) {
		t.Errorf("open = %v, %v", f, err)
	}
}

func BenchmarkLocalOpen(b *testing.B) {
	root := b.TempDir()
	file := filepath.Join(root, "data", "bucket", "k")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("x"), 0o644)); err != nil {
		b.Fatal(err)
	}
	if err := syscall.Setxattr(file, "user.etag", []byte(`"e"`), 0); err != nil {
		b.Skip(err)
	}
	local := &embedded.Local{Root: root}
	for b.Loop() {
		f, err := local.Open(functions.ObjectRef{Bucket: "bucket", Key: "k", ETag: "e", Size: 1})
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
