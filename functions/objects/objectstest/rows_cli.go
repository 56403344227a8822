package objectstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

// awscliPath is where Debian's package awscli has the program. Another aws on
// PATH may be of another make and age.
const awscliPath = "/usr/bin/aws"

// cliConfig has the command line cut even small files into parts.
const cliConfig = `[default]
region = us-east-1
s3 =
  addressing_style = path
  signature_version = s3v4
  multipart_threshold = 6MB
  multipart_chunksize = 5MB
`

// cliRows show that a program of others, as a user has it, works with the store.
func cliRows() []namedCheck {
	return []namedCheck{
		{"put-object, head, get, list, delete of odd keys", cliObjects},
		{"s3 cp in parts, up, across and down; presign; rm", cliCopy},
		{"create, upload-part, complete, abort", cliParts},
		{"errors have their codes", cliErrors},
	}
}

// needCLI skips the test where there is no AWS command line, or fails it when
// REQUIRE_AWSCLI=1.
func needCLI(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(awscliPath); err == nil {
		return
	}
	const why = "no AWS command line: run deploy/setup.sh test, or install Debian's package awscli"
	if os.Getenv("REQUIRE_AWSCLI") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// cli runs the AWS command line against the store and reads its JSON into out,
// unless that is nil.
func (b *bench) cli(ctx context.Context, out any, args ...string) error {
	home := b.cliHome
	if err := b.file("config", []byte(cliConfig)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, awscliPath, append([]string{"--endpoint-url", b.srv.Endpoint, "--output", "json", "--no-cli-pager"}, args...)...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + home, "LC_ALL=C.UTF-8", "AWS_CONFIG_FILE=" + filepath.Join(home, "config"),
		"AWS_ACCESS_KEY_ID=" + b.srv.accessKey(), "AWS_SECRET_ACCESS_KEY=" + b.srv.secretKey(),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1",
	}
	if b.srv.certFile != "" {
		cmd.Env = append(cmd.Env, "AWS_CA_BUNDLE="+b.srv.certFile)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *string:
		*out = strings.TrimSpace(stdout.String())
		return nil
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		return fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, stdout.String())
	}
	return nil
}

// file writes data below the command line's home.
func (b *bench) file(name string, data []byte) error {
	return os.WriteFile(filepath.Join(b.cliHome, name), data, 0o600)
}

// holds reports whether the file below the command line's home has that content.
func (b *bench) holds(name string, data []byte) error {
	got, err := os.ReadFile(filepath.Join(b.cliHome, name))
	return errors.Join(err, want(bytes.Equal(got, data), "%s has %d bytes, not the %d that were stored", name, len(got), len(data)))
}

type cliHead struct {
	ETag           string
	ContentLength  int64
	ContentType    string
	ChecksumSHA256 string
	Metadata       map[string]string
}

func cliObjects(ctx context.Context, b *bench) error {
	for i, key := range []string{oddKeys[0], oddKeys[1]} {
		data := random(i * 5000) // the first is empty
		if err := b.file("up", data); err != nil {
			return err
		}
		object := []string{"--bucket", b.bucket, "--key", key}
		err := b.cli(ctx, nil, append([]string{"s3api", "put-object", "--body", "up", "--content-type", "audio/wav",
			"--metadata", "task=t1", "--checksum-algorithm", "SHA256"}, object...)...)
		if err != nil {
			return err
		}
		var head cliHead
		if err := b.cli(ctx, &head, append([]string{"s3api", "head-object", "--checksum-mode", "ENABLED"}, object...)...); err != nil {
			return err
		}
		if head.ContentLength != int64(len(data)) || head.ContentType != "audio/wav" || head.ChecksumSHA256 != b64(data) || head.Metadata["task"] != "t1" {
			return fmt.Errorf("head of %q: %+v", key, head)
		}
		if err := b.cli(ctx, nil, append(append([]string{"s3api", "get-object"}, object...), "down")...); err != nil {
			return err
		}
		if err := b.holds("down", data); err != nil {
			return err
		}
	}
	var list struct {
		Contents []struct {
			Key  string
			Size int64
		}
	}
	if err := b.cli(ctx, &list, "s3api", "list-objects-v2", "--bucket", b.bucket, "--prefix", "in/", "--page-size", "1"); err != nil {
		return err
	}
	if len(list.Contents) != 2 || list.Contents[0].Key != oddKeys[0] || list.Contents[1].Key != oddKeys[1] || list.Contents[1].Size != 5000 {
		return fmt.Errorf("listed %+v", list)
	}
	if err := b.cli(ctx, nil, "s3api", "delete-object", "--bucket", b.bucket, "--key", oddKeys[1]); err != nil {
		return err
	}
	_, err := b.store.Stat(ctx, b.bucket, oddKeys[1], "")
	return wantClass(err, functions.ErrNotFound, "stat after delete")
}

func cliCopy(ctx context.Context, b *bench) error {
	data := random(12<<20 + 3)
	if err := b.file("up", data); err != nil {
		return err
	}
	at := "s3://" + b.bucket + "/"
	if err := b.cli(ctx, nil, "s3", "cp", "--only-show-errors", "--content-type", "video/mp4", "up", at+"large ü+%41.mp4"); err != nil {
		return err
	}
	ref, err := b.store.Stat(ctx, b.bucket, "large ü+%41.mp4", "")
	if err != nil || ref.Size != int64(len(data)) || ref.ContentType != "video/mp4" || !strings.HasSuffix(ref.ETag, "-3") {
		return fmt.Errorf("stat got %+v, want three parts, %w", ref, err)
	}
	if err := b.cli(ctx, nil, "s3", "cp", "--only-show-errors", at+"large ü+%41.mp4", at+"copy.mp4"); err != nil {
		return err
	}
	if err := b.cli(ctx, nil, "s3", "cp", "--only-show-errors", at+"copy.mp4", "down"); err != nil {
		return err
	}
	if err := b.holds("down", data); err != nil {
		return err
	}
	var address string
	if err := b.cli(ctx, &address, "s3", "presign", at+"large ü+%41.mp4", "--expires-in", "60"); err != nil {
		return err
	}
	status, _, body, err := b.send(ctx, functions.PresignedRequest{Method: "GET", URL: address}, nil, nil)
	if err != nil || status != 200 || !bytes.Equal(body, data) {
		return fmt.Errorf("presigned: %d, %d bytes, %w", status, len(body), err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = "/"+b.bucket+"/copy.mp4", ""
	if status, _, _, err := b.send(ctx, functions.PresignedRequest{Method: "GET", URL: u.String()}, nil, nil); err != nil || status != 403 {
		return fmt.Errorf("presigned, another key: got %d, want 403, %w", status, err)
	}
	if err := b.cli(ctx, nil, "s3", "rm", "--only-show-errors", "--recursive", at); err != nil {
		return err
	}
	for ref, err := range b.store.List(ctx, b.bucket, "", "") {
		return fmt.Errorf("rm left %+v, %v", ref, err)
	}
	return nil
}

func cliParts(ctx context.Context, b *bench) error {
	data := random(5<<20 + 11)
	if err := errors.Join(b.file("1", data[:5<<20]), b.file("2", data[5<<20:])); err != nil {
		return err
	}
	object := []string{"--bucket", b.bucket, "--key", oddKeys[0]}
	run := func(out any, args ...string) error {
		return b.cli(ctx, out, append(slices.Concat([]string{"s3api", args[0]}, object), args[1:]...)...)
	}
	var up struct {
		UploadID string `json:"UploadId"`
	}
	if err := run(&up, "create-multipart-upload", "--content-type", "video/mp4", "--checksum-algorithm", "SHA256"); err != nil {
		return err
	}
	for _, n := range []string{"1", "2"} {
		if err := run(nil, "upload-part", "--upload-id", up.UploadID, "--part-number", n, "--body", n, "--checksum-algorithm", "SHA256"); err != nil {
			return err
		}
	}
	var listed struct {
		Parts []struct {
			PartNumber     int
			ETag           string
			ChecksumSHA256 string
		}
	}
	if err := run(&listed, "list-parts", "--upload-id", up.UploadID); err != nil {
		return err
	}
	if len(listed.Parts) != 2 || listed.Parts[1].ChecksumSHA256 != b64(data[5<<20:]) {
		return fmt.Errorf("parts are %+v", listed)
	}
	list, err := json.Marshal(listed)
	if err != nil {
		return err
	}
	if err := run(nil, "complete-multipart-upload", "--upload-id", up.UploadID, "--multipart-upload", string(list)); err != nil {
		return err
	}
	ref, err := b.store.Stat(ctx, b.bucket, oddKeys[0], "")
	if err != nil || ref.ContentType != "video/mp4" {
		return fmt.Errorf("stat got %+v, %w", ref, err)
	}
	if got, err := b.read(ctx, ref); err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes came back, %w", len(got), err)
	}
	if err := run(&up, "create-multipart-upload"); err != nil {
		return err
	}
	if err := run(nil, "abort-multipart-upload", "--upload-id", up.UploadID); err != nil {
		return err
	}
	err = run(nil, "list-parts", "--upload-id", up.UploadID)
	return want(err != nil && strings.Contains(err.Error(), "NoSuchUpload"), "parts of what was aborted: %v", err)
}

func cliErrors(ctx context.Context, b *bench) error {
	if err := b.file("up", []byte("content")); err != nil {
		return err
	}
	for _, c := range []struct {
		code string
		args []string
	}{
		{"NoSuchKey", []string{"get-object", "--bucket", b.bucket, "--key", "none", "down"}},
		{"NoSuchBucket", []string{"list-objects-v2", "--bucket", "no-such-bucket-here"}},
		{"BadDigest", []string{"put-object", "--bucket", b.bucket, "--key", "k", "--body", "up", "--content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="}},
	} {
		err := b.cli(ctx, nil, append([]string{"s3api"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.code) {
			return fmt.Errorf("got %w, want %s", err, c.code)
		}
	}
	return nil
}
