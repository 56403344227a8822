package objectstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
)

// inParts is an upload under way.
type inParts struct {
	ref functions.ObjectRef
	id  string
}

func (b *bench) begin(ctx context.Context, key string, checksums bool) (inParts, error) {
	u := inParts{ref: functions.ObjectRef{Bucket: b.bucket, Key: key, ContentType: "video/mp4"}}
	var err error
	u.id, err = b.store.NewMultipart(ctx, u.ref, checksums)
	return u, err
}

// sendPart uploads one part as the holder of its signed request would; with an
// empty digest the part brings none.
func (b *bench) sendPart(ctx context.Context, u inParts, number int, data []byte, digest string) error {
	p, err := b.store.PresignPart(ctx, u.ref, u.id, number, int64(len(data)), digest, time.Minute)
	if err != nil {
		return err
	}
	status, _, body, err := b.send(ctx, p, data, nil)
	return errors.Join(err, want(status == 200, "part %d: %d %s", number, status, body))
}

func parts(ctx context.Context, b *bench) error {
	data := random(10<<20 + 77)
	for _, checksums := range []bool{false, true} {
		u, err := b.begin(ctx, fmt.Sprintf("in/%t/a b+%%41.mp4", checksums), checksums)
		if err != nil {
			return err
		}
		for _, n := range []int{3, 1, 2, 1} { // in any order, and again
			part := data[(n-1)*5<<20 : min(n*5<<20, len(data))]
			digest := ""
			if checksums {
				digest = sum(part)
			}
			if err := b.sendPart(ctx, u, n, part, digest); err != nil {
				return fmt.Errorf("checksums %t: %w", checksums, err)
			}
		}
		list, err := b.store.Parts(ctx, u.ref, u.id)
		if err != nil || len(list) != 3 {
			return fmt.Errorf("checksums %t: parts are %+v, %w", checksums, list, err)
		}
		for i, p := range list {
			part := data[i*5<<20 : min((i+1)*5<<20, len(data))]
			if p.Number != i+1 || p.Size != int64(len(part)) || p.ETag == "" || strings.Contains(p.ETag, `"`) ||
				(p.SHA256 != sum(part)) == checksums {
				return fmt.Errorf("checksums %t: part %d is %+v", checksums, i+1, p)
			}
		}
		if _, err := b.store.Stat(ctx, b.bucket, u.ref.Key, ""); !errors.Is(err, functions.ErrNotFound) {
			return fmt.Errorf("there is an object before the upload is complete: %v", err)
		}
		ref, err := b.store.CompleteMultipart(ctx, u.ref, u.id, list)
		if err != nil {
			return fmt.Errorf("checksums %t: complete: %w", checksums, err)
		}
		now, err := b.store.Stat(ctx, b.bucket, u.ref.Key, "")
		if err != nil || ref != now || ref.Size != int64(len(data)) || ref.ContentType != "video/mp4" || ref.ETag == "" || ref.SHA256 != "" {
			return fmt.Errorf("checksums %t: completed as %+v, stat says %+v, %w", checksums, ref, now, err)
		}
		if got, err := b.read(ctx, ref); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("checksums %t: %d bytes came back, %w", checksums, len(got), err)
		}
	}
	return nil
}

func partsRefused(ctx context.Context, b *bench) error {
	data := random(1000)
	other := append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1)
	u, err := b.begin(ctx, "refused", true)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name   string
		body   []byte
		digest string
		change func(*http.Request)
	}{
		{"longer", append(bytes.Clone(data), 'x'), sum(data), nil},
		{"shorter", data[:100], sum(data), nil},
		{"other content", other, sum(data), nil},
		{"no checksum sent", data, sum(data), func(r *http.Request) { r.Header.Del("X-Amz-Checksum-Sha256") }},
		{"no checksum signed", data, "", nil},
		{"other number", data, sum(data), query("partNumber", "2")},
		{"other upload", data, sum(data), query("uploadId", "other")},
		{"other key", data, sum(data), func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, "refused", "stolen", 1) }},
	} {
		p, err := b.store.PresignPart(ctx, u.ref, u.id, 1, int64(len(data)), c.digest, time.Minute)
		if err != nil {
			return err
		}
		if status, _, _, err := b.send(ctx, p, c.body, c.change); err != nil || status < 400 || status >= 500 {
			return fmt.Errorf("%s: got %d, want it refused, %w", c.name, status, err)
		}
	}
	list, err := b.store.Parts(ctx, u.ref, u.id)
	return errors.Join(err, want(len(list) == 0, "refused parts were kept: %+v", list))
}

func query(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Set(name, value)
		r.URL.RawQuery = q.Encode()
	}
}

// completeEnds looks at every way in which completing is refused.
func completeEnds(ctx context.Context, b *bench) error {
	data := random(5<<20 + 9)
	start := func(key string) (inParts, []functions.Part, error) {
		u, err := b.begin(ctx, key, true)
		for i, part := range [][]byte{data[:5<<20], data[5<<20:]} {
			if err == nil {
				err = b.sendPart(ctx, u, i+1, part, sum(part))
			}
		}
		if err != nil {
			return u, nil, err
		}
		list, err := b.store.Parts(ctx, u.ref, u.id)
		return u, list, err
	}
	u, list, err := start("ends")
	if err != nil {
		return err
	}
	for name, bad := range map[string][]functions.Part{
		"none":         nil,
		"missing one":  append(slices.Clone(list), functions.Part{Number: 3, ETag: list[0].ETag, SHA256: list[0].SHA256}),
		"another ETag": {list[0], {Number: 2, ETag: list[0].ETag, SHA256: list[1].SHA256}},
		"another hash": {list[0], {Number: 2, ETag: list[1].ETag, SHA256: sum(data)}},
		"no hex":       {list[0], {Number: 2, ETag: list[1].ETag, SHA256: "zz"}},
		"no order":     {list[1], list[0]},
	} {
		_, err := b.store.CompleteMultipart(ctx, u.ref, u.id, bad)
		if err := wantClass(err, functions.ErrInvalid, "parts: "+name); err != nil {
			return err
		}
	}
	rival, rivalList, err := start("ends") // of the same key
	if err != nil {
		return err
	}
	ref, err := b.store.CompleteMultipart(ctx, u.ref, u.id, list)
	if err != nil {
		return fmt.Errorf("complete after refusals: %w", err)
	}
	_, err = b.store.CompleteMultipart(ctx, u.ref, u.id, list)
	if err := wantClass(err, functions.ErrConflict, "complete twice"); err != nil {
		return err
	}
	_, err = b.store.CompleteMultipart(ctx, rival.ref, rival.id, rivalList)
	if err := wantClass(err, functions.ErrConflict, "complete another upload of the key"); err != nil {
		return err
	}
	if now, err := b.store.Stat(ctx, b.bucket, "ends", ""); err != nil || now != ref {
		return fmt.Errorf("the object is %+v now, want %+v, %w", now, ref, err)
	}
	for range 2 {
		if err := b.store.AbortMultipart(ctx, rival.ref, rival.id); err != nil {
			return fmt.Errorf("abort: %w", err)
		}
	}
	gone, list, err := start("gone")
	if err != nil {
		return err
	}
	for range 2 {
		if err := b.store.AbortMultipart(ctx, gone.ref, gone.id); err != nil {
			return fmt.Errorf("abort: %w", err)
		}
	}
	_, err = b.store.CompleteMultipart(ctx, gone.ref, gone.id, list)
	if err := wantClass(err, functions.ErrNotFound, "complete what was aborted"); err != nil {
		return err
	}
	_, err = b.store.Parts(ctx, gone.ref, gone.id)
	if err := wantClass(err, functions.ErrNotFound, "parts of what was aborted"); err != nil {
		return err
	}
	_, err = b.store.Parts(ctx, u.ref, u.id)
	if err := wantClass(err, functions.ErrNotFound, "parts of what is complete"); err != nil {
		return err
	}
	if err := b.sendPart(ctx, gone, 1, data[:10], sum(data[:10])); err == nil {
		return errors.New("an aborted upload took a part")
	}
	_, err = b.store.NewMultipart(ctx, functions.ObjectRef{Bucket: "no-such-bucket-here", Key: "k"}, true)
	return wantClass(err, functions.ErrNotFound, "an upload into a missing bucket")
}

// completeRace has many complete one upload, and the same key by other uploads.
func completeRace(ctx context.Context, b *bench) error {
	data := random(1000)
	var uploads [4]inParts
	var lists [4][]functions.Part
	for i := range uploads {
		u, err := b.begin(ctx, "race", false)
		if err == nil {
			err = b.sendPart(ctx, u, 1, append([]byte{byte(i)}, data...), "")
		}
		if err == nil {
			lists[i], err = b.store.Parts(ctx, u.ref, u.id)
		}
		if err != nil {
			return err
		}
		uploads[i] = u
	}
	var won atomic.Int32
	var mu sync.Mutex // guards failed
	var failed error
	var wg sync.WaitGroup
	for range 4 {
		for i, u := range uploads {
			wg.Go(func() {
				_, err := b.store.CompleteMultipart(ctx, u.ref, u.id, lists[i])
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, functions.ErrConflict):
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return want(won.Load() == 1, "%d completions won, want 1", won.Load())
}

// manyParts needs more than one page of a list of parts.
func manyParts(ctx context.Context, b *bench) error {
	const count = 1003
	u, err := b.begin(ctx, "many", false)
	if err != nil {
		return err
	}
	var next atomic.Int32
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			var err error
			for n := int(next.Add(1)); n <= count && err == nil; n = int(next.Add(1)) {
				err = b.sendPart(ctx, u, n, fmt.Appendf(nil, "%d", n), "")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	list, err := b.store.Parts(ctx, u.ref, u.id)
	if err != nil {
		return err
	}
	for i, p := range list {
		if p.Number != i+1 || p.Size != int64(len(fmt.Sprint(i+1))) {
			return fmt.Errorf("part %d is %+v", i+1, p)
		}
	}
	if len(list) != count {
		return fmt.Errorf("%d parts, want %d", len(list), count)
	}
	_, err = b.store.CompleteMultipart(ctx, u.ref, u.id, list)
	if err := wantClass(err, functions.ErrInvalid, "complete with parts under 5 MiB"); err != nil {
		return err
	}
	return b.store.AbortMultipart(ctx, u.ref, u.id)
}

// post sends a form as a browser does, with the file last.
func (b *bench) post(ctx context.Context, f functions.PostForm, order []string, data []byte) (int, string, error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, name := range order {
		if err := w.WriteField(name, f.Fields[name]); err != nil {
			return 0, "", err
		}
	}
	file, err := w.CreateFormFile(f.FileField, `C:\a "file".png`)
	if err == nil {
		_, err = file.Write(data)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, &body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := b.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(text), err
}

func postForm(ctx context.Context, b *bench) error {
	ref := functions.ObjectRef{Bucket: b.bucket, Key: "in/1/ä b+c%41.png", ContentType: "image/png"}
	for i, n := range []int{10, 1000} {
		f, err := b.store.PresignPost(ctx, ref, 10, 1000, time.Minute)
		if err != nil {
			return err
		}
		order := slices.Sorted(maps.Keys(f.Fields))
		if i == 1 {
			slices.Reverse(order)
		}
		data := random(n)
		if status, text, err := b.post(ctx, f, order, data); err != nil || status != 201 {
			return fmt.Errorf("form of %d bytes: %d %s, %w", n, status, text, err)
		}
		got, err := b.store.Stat(ctx, b.bucket, ref.Key, "")
		if err != nil || got.Size != int64(n) || got.ContentType != "image/png" {
			return fmt.Errorf("form of %d bytes: stat got %+v, %w", n, got, err)
		}
		if stored, err := b.read(ctx, got); err != nil || !bytes.Equal(stored, data) {
			return fmt.Errorf("form of %d bytes: %d came back, %w", n, len(stored), err)
		}
	}
	return nil
}

func postRefused(ctx context.Context, b *bench) error {
	ref := functions.ObjectRef{Bucket: b.bucket, Key: "in/form.png", ContentType: "image/png"}
	for _, c := range []struct {
		name   string
		size   int
		change func(*functions.PostForm)
	}{
		{"too small", 9, nil},
		{"too large", 1001, nil},
		{"other key", 100, func(f *functions.PostForm) { f.Fields["key"] = "in/other.png" }},
		{"other type", 100, func(f *functions.PostForm) { f.Fields["Content-Type"] = "text/html" }},
		{"no type", 100, func(f *functions.PostForm) { delete(f.Fields, "Content-Type") }},
		{"bad signature", 100, func(f *functions.PostForm) {
			f.Fields["x-amz-signature"] = strings.Repeat("0", 64)
		}},
		{"no signature", 100, func(f *functions.PostForm) { delete(f.Fields, "x-amz-signature") }},
		{"other policy", 100, func(f *functions.PostForm) { f.Fields["policy"] = "e30=" }},
		{"other bucket", 100, func(f *functions.PostForm) { f.URL = strings.Replace(f.URL, b.bucket, b.bucket+"x", 1) }},
		{"one more field", 100, func(f *functions.PostForm) { f.Fields["x-amz-meta-extra"] = "1" }},
	} {
		f, err := b.store.PresignPost(ctx, ref, 10, 1000, time.Minute)
		if err != nil {
			return err
		}
		if c.change != nil {
			c.change(&f)
		}
		status, text, err := b.post(ctx, f, slices.Sorted(maps.Keys(f.Fields)), random(c.size))
		if err != nil || status < 400 || status >= 500 {
			return fmt.Errorf("%s: got %d %s, want it refused, %w", c.name, status, text, err)
		}
	}
	f, err := b.store.PresignPost(ctx, ref, 10, 1000, time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2100*time.Millisecond); err != nil { // its clock counts whole seconds
		return err
	}
	if status, _, err := b.post(ctx, f, slices.Sorted(maps.Keys(f.Fields)), random(100)); err != nil || status < 400 || status >= 500 {
		return fmt.Errorf("expired: got %d, want it refused, %w", status, err)
	}
	for ref, err := range b.store.List(ctx, b.bucket, "", "") {
		return fmt.Errorf("a refused form was stored: %+v, %v", ref, err)
	}
	return nil
}
