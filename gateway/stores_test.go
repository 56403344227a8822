package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/objects/embedded"
	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/intake"
)

func TestUploadsOnTheEmbeddedStore(t *testing.T) {
	c := embedded.Config{Root: t.TempDir(), Addr: miniotest.FreeAddr(t), AccessKey: "key", SecretKey: "secret-secret"}
	st, err := objects.New(objects.Config{Endpoint: "http://" + c.Addr, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	c.Ready = ready
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- embedded.Run(ctx, c) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-ready
	uploadsOn(t, st)
}

func TestUploadsOnMinIO(t *testing.T) {
	miniotest.Binary(t)
	uploadsOn(t, miniotest.Start(t, miniotest.Options{}).Store)
}

// aborting tells of each upload that was aborted.
type aborting struct {
	gateway.Objects
	done chan string
}

func (a aborting) AbortMultipart(ctx context.Context, ref functions.ObjectRef, uploadID string) error {
	defer func() { a.done <- uploadID }()
	return a.Objects.AbortMultipart(ctx, ref, uploadID)
}

// uploadsOn is the whole protocol as a client speaks it to a real store.
func uploadsOn(t *testing.T, st *objects.Store) {
	if err := st.EnsureBucket(t.Context(), intake.Bucket); err != nil {
		t.Fatal(err)
	}
	aborted := make(chan string, 10)
	w := newWorld(t, func(c *gateway.Config) {
		w := c.Tasks.(*world)
		c.Objects, c.Door = aborting{st, aborted}, intake.New(intake.Config{Log: w, Functions: w, Tasks: w, Queue: w, Objects: st})
	})
	w.run = nil
	defer w.running(t)()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	put := func(to functions.PresignedRequest, data []byte) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), to.Method, to.URL, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range to.Headers {
			r.Header.Set(k, v)
		}
		return answer(t, client, r)
	}
	const name = `"name":"a b+%41 ü&'.bin"`

	t.Run("put", func(t *testing.T) {
		u := w.announce(t, name+`,"size":5,"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"`)
		if code := put(*u.Upload, []byte("hallo")); code != 400 {
			t.Errorf("another content: %d", code)
		}
		if a, b := put(*u.Upload, []byte("hello")), put(*u.Upload, []byte("hello")); a != 200 || b != 412 {
			t.Errorf("sent: %d, and again: %d", a, b)
		}
		if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 200 || w.get(u.ID).State != functions.Queued {
			t.Errorf("complete: %d %s", rec.Code, rec.Body)
		}
	})
	t.Run("multipart", func(t *testing.T) {
		data := make([]byte, 33*mib)
		_, _ = rand.Read(data) // never fails
		piece := func(n int) []byte { return data[(n-1)*16*mib : min(n*16*mib, len(data))] }
		u := w.announce(t, name+`,"size":34603008,"method":"multipart","part_checksums":true`)
		sign := func(n int) functions.PresignedRequest {
			t.Helper()
			rec := w.do(t, "POST", u.at()+"/parts", partsOf(n, piece(n)))
			if rec.Code != 200 {
				t.Fatalf("sign: %d %s", rec.Code, rec.Body)
			}
			return decode[struct{ Parts []functions.PresignedRequest }](t, rec).Parts[0]
		}
		for _, n := range []int{3, 1} {
			if code := put(sign(n), piece(n)); code != 200 {
				t.Fatalf("part %d: %d", n, code)
			}
		}
		if code := put(sign(2), piece(1)); code != 400 {
			t.Errorf("part 2 with the bytes of another: %d", code)
		}
		rec := w.do(t, "POST", u.at()+"/complete", "")
		if p := decode[problem](t, rec); p.Code != "parts_missing" || !strings.Contains(p.Detail, "parts 2 of 3") {
			t.Errorf("too early: %d %s", rec.Code, rec.Body)
		}
		if got := decode[upload](t, w.do(t, "GET", u.at(), "")).Multipart.Received; len(got) != 2 || got[1].Size != mib || got[0].SHA256 == "" {
			t.Errorf("received %+v", got)
		}
		if code := put(sign(2), piece(2)); code != 200 {
			t.Fatalf("part 2: %d", code)
		}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if rec := w.do(t, "POST", u.at()+"/complete", ""); rec.Code != 200 {
					t.Errorf("complete: %d %s", rec.Code, rec.Body)
				}
			})
		}
		wg.Wait()
		body, err := st.Get(t.Context(), w.get(u.ID).Inputs[0].ObjectRef)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the object has %d bytes, or others: %v", len(got), err)
		}
	})
	t.Run("form", func(t *testing.T) {
		for _, c := range []struct {
			more, content string
			status        int
		}{{``, "from a form", 201}, {`,"size":11`, "from a form", 201}, {`,"size":10`, "from a form", 400}, {`,"size":12`, "from a form", 400}} {
			u := w.announce(t, name+`,"method":"form"`+c.more)
			var form bytes.Buffer
			mw := multipart.NewWriter(&form)
			for k, v := range u.Form.Fields {
				if err := mw.WriteField(k, v); err != nil {
					t.Fatal(err)
				}
			}
			fw, err := mw.CreateFormFile(u.Form.FileField, "local.name")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(fw, c.content); err != nil || mw.Close() != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequestWithContext(t.Context(), "POST", u.Form.URL, &form)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", mw.FormDataContentType())
			if code := answer(t, client, r); code != c.status {
				t.Errorf("%s: %d", c.more, code)
			}
			rec := w.do(t, "POST", u.at()+"/complete", "")
			if (rec.Code == 200) != (c.status == 201) {
				t.Errorf("%s: complete: %d %s", c.more, rec.Code, rec.Body)
			}
		}
	})
	t.Run("delete", func(t *testing.T) {
		u := w.announce(t, name+`,"size":5,"method":"multipart"`)
		task := w.get(u.ID)
		to := decode[struct{ Parts []functions.PresignedRequest }](t, w.do(t, "POST", u.at()+"/parts", `{"parts":[{"number":1}]}`)).Parts[0]
		if code := put(to, []byte("hello")); code != 200 {
			t.Fatalf("part: %d", code)
		}
		if rec := w.do(t, "DELETE", u.at(), ""); rec.Code != 200 {
			t.Fatalf("delete: %d %s", rec.Code, rec.Body)
		}
		if id := <-aborted; id != task.Upload.ID {
			t.Errorf("aborted %s", id)
		}
		if _, err := st.Parts(t.Context(), task.Inputs[0].ObjectRef, task.Upload.ID); !errors.Is(err, functions.ErrNotFound) {
			t.Errorf("the parts stay: %v", err)
		}
		if code := put(to, []byte("hello")); code != 404 {
			t.Errorf("a part after the end: %d", code)
		}
	})
}

func answer(t *testing.T, client *http.Client, r *http.Request) int {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only so that the connection is used again
	return resp.StatusCode
}
