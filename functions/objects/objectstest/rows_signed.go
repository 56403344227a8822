package objectstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/spillway/spillway/functions"
)

func (b *bench) upload(key string, data []byte) functions.ObjectRef {
	return functions.ObjectRef{Bucket: b.bucket, Key: key, Size: int64(len(data)), ContentType: "image/png", SHA256: sum(data)}
}

func signedPut(ctx context.Context, b *bench) error {
	for _, n := range []int{0, 100_000} {
		data := random(n)
		ref := b.upload(fmt.Sprintf("in/%d.png", n), data)
		p, err := b.store.PresignPut(ctx, ref, time.Minute)
		if err != nil {
			return err
		}
		if status, _, body, err := b.send(ctx, p, data, nil); err != nil || status != 200 {
			return fmt.Errorf("first upload of %d bytes: %d %s, %w", n, status, body, err)
		}
		got, err := b.store.Stat(ctx, b.bucket, ref.Key, "")
		if err != nil || got.Size != ref.Size || got.ContentType != "image/png" {
			return fmt.Errorf("stat got %+v, %w", got, err)
		}
		if status, _, _, err := b.send(ctx, p, data, nil); err != nil || status != 412 {
			return fmt.Errorf("second upload of %d bytes: got %d, want 412, %w", n, status, err)
		}
	}
	return nil
}

func signedPutRefused(ctx context.Context, b *bench) error {
	data := random(1000)
	other := append(bytes.Clone(data[:999]), data[999]^1)
	for _, c := range []struct {
		name   string
		body   []byte
		change func(*http.Request)
	}{
		{"longer", append(bytes.Clone(data), 'x'), nil},
		{"shorter", data[:999], nil},
		{"other content", other, nil},
		{"other type", data, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }},
		{"overwrite allowed", data, func(r *http.Request) { r.Header.Del("If-None-Match") }},
		{"no checksum", other, func(r *http.Request) { r.Header.Del("X-Amz-Checksum-Sha256") }},
		{"other key", data, func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, "refused", "stolen", 1) }},
	} {
		p, err := b.store.PresignPut(ctx, b.upload("refused", data), time.Minute)
		if err != nil {
			return err
		}
		if status, _, _, err := b.send(ctx, p, c.body, c.change); err != nil || status < 400 || status >= 500 {
			return fmt.Errorf("%s: got %d, want it refused, %w", c.name, status, err)
		}
	}
	p, err := b.store.PresignPut(ctx, b.upload("refused", data), time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2100*time.Millisecond); err != nil { // the signature's clock counts whole seconds
		return err
	}
	if status, _, _, err := b.send(ctx, p, data, nil); err != nil || status < 400 || status >= 500 {
		return fmt.Errorf("expired: got %d, want it refused, %w", status, err)
	}
	for ref := range b.store.List(ctx, b.bucket, "", "") {
		return fmt.Errorf("a refused upload was stored: %+v", ref)
	}
	return nil
}

// signedPutCut sends half of a body and ends the connection, as a browser does
// when its page is closed. There is no checksum that could tell.
func signedPutCut(ctx context.Context, b *bench) error {
	for _, key := range []string{"cut/a", "cut/b"} {
		ref := functions.ObjectRef{Bucket: b.bucket, Key: key, Size: 4 << 20}
		p, err := b.store.PresignPut(ctx, ref, time.Minute)
		if err != nil {
			return err
		}
		body := io.MultiReader(bytes.NewReader(make([]byte, ref.Size/2)), iotest.ErrReader(errCut))
		req, err := http.NewRequestWithContext(ctx, p.Method, p.URL, body)
		if err != nil {
			return err
		}
		for k, v := range p.Headers {
			req.Header.Set(k, v)
		}
		req.ContentLength = ref.Size
		if resp, err := b.http.Do(req); err == nil {
			resp.Body.Close()
			return fmt.Errorf("half an upload was answered with %d", resp.StatusCode)
		}
	}
	// The store notices a moment later; by the time it answers a complete upload
	// of the same size it has, and once more for good measure.
	for _, key := range []string{"whole/a", "whole/b"} {
		if _, err := b.put(ctx, key, make([]byte, 4<<20), ""); err != nil {
			return err
		}
	}
	for ref, err := range b.store.List(ctx, b.bucket, "cut/", "") {
		return fmt.Errorf("half an upload was stored: %+v, %v", ref, err)
	}
	return nil
}

var errCut = errors.New("the page was closed")

func signedPutRace(ctx context.Context, b *bench) error {
	data := random(5000)
	p, err := b.store.PresignPut(ctx, b.upload("race", data), time.Minute)
	if err != nil {
		return err
	}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch status, _, _, err := b.send(ctx, p, data, nil); {
			case err == nil && status == 200:
				won.Add(1)
			case err == nil && (status == 412 || status == 409):
				lost.Add(1)
			}
		})
	}
	wg.Wait()
	return want(won.Load() == 1 && lost.Load() == 15, "%d uploads won and %d were refused, want 1 and 15", won.Load(), lost.Load())
}

func signedGet(ctx context.Context, b *bench) error {
	ref, err := b.put(ctx, "out/page.html", []byte("<script>"), "text/html")
	if err != nil {
		return err
	}
	ref.ContentType = "application/octet-stream"
	for _, name := range []string{"page.html", `a "b"; 码.txt`} {
		p, err := b.store.PresignGet(ctx, ref, time.Minute, name)
		if err != nil {
			return err
		}
		status, head, body, err := b.send(ctx, p, nil, nil)
		if err != nil || status != 200 || string(body) != "<script>" {
			return fmt.Errorf("download: %d %s, %w", status, body, err)
		}
		if d := head.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment; filename") || head.Get("Content-Type") != ref.ContentType {
			return fmt.Errorf("download came as %q, %q", d, head.Get("Content-Type"))
		}
	}
	p, err := b.store.PresignGet(ctx, ref, time.Minute, "")
	if err != nil {
		return err
	}
	p.URL = strings.Replace(p.URL, "page.html", "other.html", 1)
	status, _, _, err := b.send(ctx, p, nil, nil)
	return errors.Join(err, want(status == 403, "download of another key: got %d, want 403", status))
}

// oddKeysSigned takes every odd key through what our client does with it.
func oddKeysSigned(ctx context.Context, b *bench) error {
	for i, key := range oddKeys {
		data := random(i * 1000) // the first is empty
		ref := b.upload(key, data)
		p, err := b.store.PresignPut(ctx, ref, time.Minute)
		if err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		if status, _, body, err := b.send(ctx, p, data, nil); err != nil || status != 200 {
			return fmt.Errorf("upload %q: %d %s, %w", key, status, body, err)
		}
		now, err := b.store.Stat(ctx, b.bucket, key, "")
		if err != nil || now.Key != key || now.Size != ref.Size {
			return fmt.Errorf("stat %q: %+v, %w", key, now, err)
		}
		if p, err = b.store.PresignGet(ctx, now, time.Minute, "x"); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		if status, _, body, err := b.send(ctx, p, nil, nil); err != nil || status != 200 || !bytes.Equal(body, data) {
			return fmt.Errorf("download %q: %d, %d bytes, %w", key, status, len(body), err)
		}
		if _, file, err := b.stage(ctx, now); err != nil || !bytes.Equal(file, data) {
			return fmt.Errorf("stage %q: %d bytes, %w", key, len(file), err)
		}
		for found, err := range b.store.List(ctx, b.bucket, key, "") {
			if err != nil || found.Key != key {
				return fmt.Errorf("list %q: %+v, %w", key, found, err)
			}
		}
		if err := b.store.Delete(ctx, now); err != nil {
			return fmt.Errorf("delete %q: %w", key, err)
		}
	}
	for ref, err := range b.store.List(ctx, b.bucket, "", "") {
		return fmt.Errorf("left behind: %+v, %v", ref, err)
	}
	return nil
}

func statChecksum(ctx context.Context, b *bench) error {
	data := random(2000)
	ref := b.upload("sum", data)
	p, err := b.store.PresignPut(ctx, ref, time.Minute)
	if err != nil {
		return err
	}
	if status, _, body, err := b.send(ctx, p, data, nil); err != nil || status != 200 {
		return fmt.Errorf("upload: %d %s, %w", status, body, err)
	}
	got, err := b.store.Stat(ctx, b.bucket, "sum", "")
	return errors.Join(err, want(got.SHA256 == ref.SHA256, "stat has SHA-256 %q, want %q", got.SHA256, ref.SHA256))
}

// preflight asks as a page on Origin would before it uploads. An embedded store
// is started with that origin; MinIO answers every origin.
func preflight(ctx context.Context, b *bench) error {
	p, err := b.store.PresignPut(ctx, b.upload("cors", nil), time.Minute)
	if err != nil {
		return err
	}
	p.Method, p.Headers = http.MethodOptions, nil
	status, head, _, err := b.send(ctx, p, nil, func(r *http.Request) {
		r.Header.Set("Origin", Origin)
		r.Header.Set("Access-Control-Request-Method", http.MethodPut)
		r.Header.Set("Access-Control-Request-Headers", "content-type,if-none-match,x-amz-checksum-sha256")
	})
	if err != nil {
		return err
	}
	origin := head.Get("Access-Control-Allow-Origin")
	return want(status < 300 && (origin == Origin || origin == "*"), "preflight: %d, origin %q", status, origin)
}

// Origin is the web origin that the suite's preflight comes from.
const Origin = "https://dashboard.example.com"

// notifications needs a server with the webhook targets of NotifyARNs.
func notifications(ctx context.Context, b *bench) error {
	put := func(rules ...types.QueueConfiguration) error {
		_, err := b.aws.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket: &b.bucket, NotificationConfiguration: &types.NotificationConfiguration{QueueConfigurations: rules},
		})
		return err
	}
	err := put(types.QueueConfiguration{
		Id: aws.String("foreign"), QueueArn: aws.String(NotifyARNs[0]), Events: []types.Event{"s3:ObjectRemoved:*"},
		Filter: &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: []types.FilterRule{
			{Name: types.FilterRuleNamePrefix, Value: aws.String("keep/")}}}},
	})
	if err != nil {
		return err
	}
	for _, rules := range [][]functions.Trigger{
		{{Bucket: b.bucket, Prefix: "a/"}, {Bucket: b.bucket, Prefix: "b/", Suffix: ".wav"}},
		{{Bucket: b.bucket, Prefix: "a/"}, {Bucket: b.bucket, Prefix: "b/", Suffix: ".wav"}},
		{{Bucket: b.bucket}, {Bucket: b.bucket, Prefix: "c/"}},
		nil,
	} {
		given := append(rules, functions.Trigger{Bucket: "another"})
		if len(rules) > 0 {
			given = append(given, rules[0]) // two functions may want the same
		}
		if err := b.store.SetNotifications(ctx, b.bucket, NotifyARNs, given); err != nil {
			return err
		}
		got, err := b.aws.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &b.bucket})
		if err != nil {
			return err
		}
		foreign, perTarget := 0, make(map[string]int)
		for _, q := range got.QueueConfigurations {
			if aws.ToString(q.Id) == "foreign" && len(q.Events) == 1 && q.Events[0] == "s3:ObjectRemoved:*" {
				foreign++
				continue
			}
			perTarget[aws.ToString(q.QueueArn)]++
		}
		if foreign != 1 || len(got.QueueConfigurations) != len(NotifyARNs)*len(rules)+1 {
			return fmt.Errorf("after %v there are %d rules, %d foreign", rules, len(got.QueueConfigurations), foreign)
		}
		for _, target := range NotifyARNs {
			if perTarget[target] != len(rules) {
				return fmt.Errorf("%s has %d rules, want %d", target, perTarget[target], len(rules))
			}
		}
	}
	err = b.store.SetNotifications(ctx, b.bucket, []string{NotifyARNs[0], "arn:minio:sqs::NOSUCH:webhook"}, []functions.Trigger{{Bucket: b.bucket}})
	if err := wantClass(err, functions.ErrInvalid, "a target that the store does not know"); err != nil {
		return err
	}
	var said *functions.Error
	return want(errors.As(err, &said) && strings.Contains(said.Hint, "\nMINIO_NOTIFY_WEBHOOK_ENABLE_NOSUCH=on\n"),
		"the hint does not say what to set: %+v", said)
}

// NotifyARNs are the webhook targets that a MinIO under test has.
var NotifyARNs = []string{"arn:minio:sqs::FAST:webhook", "arn:minio:sqs::DURABLE:webhook"}
