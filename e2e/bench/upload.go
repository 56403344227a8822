package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions"
)

// never is a function whose tasks stay in the queue: what is measured is the way
// of the file, not what is done with it.
const never = "name: %s\nimage: simulated\nhandles: [data]\ndevice: never\nlimits: {cpus: 0.01, memory: 4TiB}\n"

const partClients = 4 // parts under way at once

// way is one way of a file to its task. It returns when the task is queued; the
// ways without a task return when the store has the file.
type way struct {
	name string
	send func(ctx context.Context, s *sides, name string, data []byte) error
	took []float64        // of a round, in ms
	used [3]time.Duration // processor time of all rounds: client, MinIO, server
}

// upload compares the ways of a file, one after the other in each round, so that
// what else the machine does falls on all alike.
func (b *bench) upload(ctx context.Context) error {
	s, err := b.onMinIO(ctx, "upload", nil)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, _, _, err := s.srv.Call(ctx, "POST", "/v1/functions", map[string]string{"Content-Type": "application/yaml"}, bytes.NewReader(fmt.Appendf(nil, never, "fn"))); err != nil {
		return err
	}
	if err := s.s3.MakeBucket(ctx, "plain", minio.MakeBucketOptions{}); err != nil {
		return err
	}
	spool, stop, err := spooler(s, b.dir)
	if err != nil {
		return err
	}
	defer stop()
	b.note("client, MinIO and server share the cores; each round sends the file by every way in turn")

	large := []*way{
		{name: "MinIO, one PUT", send: plainPut(true, false)},
		{name: "MinIO, parts of 16 MiB", send: plainPut(false, false)},
		{name: "MinIO, one PUT, no checksum by the client", send: plainPut(true, true)},
		{name: "MinIO, parts, no checksum by the client", send: plainPut(false, true)},
		{name: "presigned parts, file to queued task", send: presignedParts},
		{name: "form through the API, file to queued task", send: throughAPI},
		{name: "form, spooled to disk, then copied to MinIO", send: spool},
	}
	data := make([]byte, 256<<20)
	fill(data)
	if err := s.race(ctx, large, b.rounds, func(w *way, round int) error {
		return w.send(ctx, s, fmt.Sprintf("large-%d.bin", round), data)
	}); err != nil {
		return err
	}
	for _, w := range large {
		b.spread("256 MiB: "+w.name, w.took)
	}
	for _, w := range large {
		w.costs(1)
	}
	floor := large[0]
	for _, w := range large[1:4] {
		if median(w.took) < median(floor.took) {
			floor = w
		}
	}
	b.figure("the fastest PUT to MinIO is: "+floor.name, 256/median(floor.took)*1000, "MiB/s")
	for _, w := range large[4:] {
		b.figure("  throughput over that: "+w.name, median(floor.took)/median(w.took), "x")
	}

	const files, size, clients = 1000, 64 << 10, 16
	small := []*way{
		{name: "MinIO, PUT", send: plainPut(true, true)},
		{name: "presigned PUT, file to queued task", send: presignedPut},
		{name: "form through the API, file to queued task", send: throughAPI},
		{name: "form, spooled to disk, then copied to MinIO", send: spool},
	}
	if err := s.race(ctx, small, b.rounds, func(w *way, round int) error {
		return each(ctx, files, clients, func(ctx context.Context, i int) error {
			return w.send(ctx, s, fmt.Sprintf("small-%d-%d.bin", round, i), data[i*size:(i+1)*size])
		})
	}); err != nil {
		return err
	}
	for _, w := range small {
		b.figure(fmt.Sprintf("%d x 64 KiB, %d clients: %s", files, clients, w.name), files/median(w.took)*1000, "per second")
	}
	for _, w := range small {
		w.costs(files)
	}
	for _, w := range small[1:] {
		b.figure("  rate over plain PUTs: "+w.name, median(small[0].took)/median(w.took), "x")
	}
	return nil
}

// race runs every way once a round, each round beginning with another one, and
// empties the buckets between.
func (s *sides) race(ctx context.Context, ways []*way, rounds int, run func(w *way, round int) error) error {
	for round := range rounds + 1 { // the first warms up
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			began, before := time.Now(), s.processor()
			if err := run(w, round); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if round > 0 {
				w.took = append(w.took, ms(time.Since(began)))
				for i, now := range s.processor() {
					w.used[i] += now - before[i]
				}
			}
			for _, bucket := range []string{"plain", "uploads"} {
				for r := range s.s3.RemoveObjectsWithResult(ctx, bucket, s.s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}), minio.RemoveObjectsOptions{}) {
					if r.Err != nil {
						return r.Err
					}
				}
			}
		}
	}
	return nil
}

// processor is the processor time of the client (this process), MinIO and server.
func (s *sides) processor() [3]time.Duration {
	return [3]time.Duration{cpu(os.Getpid()), cpu(s.store.Pid()), cpu(s.srv.Pid())}
}

// costs prints what a way took of the processors, for each of so many files.
func (w *way) costs(files int) {
	per := func(d time.Duration) float64 { return ms(d) / float64(files*len(w.took)) }
	fmt.Printf("  %-56s %10.2f ms client %10.2f MinIO %10.2f server\n", "  processor time: "+w.name, per(w.used[0]), per(w.used[1]), per(w.used[2]))
}

// fill makes bytes that do not compress, unlike from file to file.
func fill(b []byte) {
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
}

func plainPut(single, unsigned bool) func(context.Context, *sides, string, []byte) error {
	return func(ctx context.Context, s *sides, name string, data []byte) error {
		_, err := s.s3.PutObject(ctx, "plain", name, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{
			DisableMultipart: single, PartSize: 16 << 20, NumThreads: partClients, DisableContentSha256: unsigned,
		})
		return err
	}
}

// session is what the gateway says of an upload.
type session struct {
	ID        functions.TaskID           `json:"id"`
	Upload    functions.PresignedRequest `json:"upload"`
	Multipart struct {
		PartSize int64 `json:"part_size"`
		Parts    int   `json:"parts"`
	} `json:"multipart"`
}

func (s *sides) begin(ctx context.Context, name, method string, size int) (session, error) {
	var up session
	err := s.srv.JSON(ctx, "POST", "/v1/uploads", map[string]any{"function": "fn", "name": name, "size": size, "method": method, "content_type": "application/octet-stream"}, &up)
	return up, err
}

// complete says that the file is there and makes sure that its task is queued.
func (s *sides) complete(ctx context.Context, id functions.TaskID) error {
	var task harness.Task
	if err := s.srv.JSON(ctx, "POST", "/v1/uploads/"+string(id)+"/complete", nil, &task); err != nil {
		return err
	}
	if task.Status != string(functions.Queued) {
		return fmt.Errorf("the completed upload's task is %s", task.Status)
	}
	return nil
}

func presignedPut(ctx context.Context, s *sides, name string, data []byte) error {
	up, err := s.begin(ctx, name, "put", len(data))
	if err != nil {
		return err
	}
	if err := s.srv.Put(ctx, up.Upload, data); err != nil {
		return err
	}
	return s.complete(ctx, up.ID)
}

func presignedParts(ctx context.Context, s *sides, name string, data []byte) error {
	up, err := s.begin(ctx, name, "multipart", len(data))
	if err != nil {
		return err
	}
	type number struct {
		Number int `json:"number"`
	}
	var want []number
	for n := range up.Multipart.Parts {
		want = append(want, number{n + 1})
	}
	var signed struct {
		Parts []struct {
			number
			functions.PresignedRequest
		} `json:"parts"`
	}
	if err := s.srv.JSON(ctx, "POST", "/v1/uploads/"+string(up.ID)+"/parts", map[string]any{"parts": want}, &signed); err != nil {
		return err
	}
	if err := each(ctx, len(signed.Parts), partClients, func(ctx context.Context, i int) error {
		p := signed.Parts[i]
		from := int64(p.Number-1) * up.Multipart.PartSize
		return s.srv.Put(ctx, p.PresignedRequest, data[from:min(int64(len(data)), from+up.Multipart.PartSize)])
	}); err != nil {
		return err
	}
	return s.complete(ctx, up.ID)
}

// form streams a file as multipart/form-data, as the clients of the older API do.
func form(name string, data []byte) (body io.Reader, contentType string, size int64, err error) {
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	if err := w.WriteField("source_type", "data"); err != nil {
		return nil, "", 0, err
	}
	if _, err := w.CreateFormFile("file", name); err != nil {
		return nil, "", 0, err
	}
	tail := []byte("\r\n--" + w.Boundary() + "--\r\n")
	size = int64(head.Len() + len(data) + len(tail))
	return io.MultiReader(&head, bytes.NewReader(data), bytes.NewReader(tail)), w.FormDataContentType(), size, nil
}

func postForm(ctx context.Context, url, name string, data []byte) ([]byte, error) {
	body, contentType, size, err := form(name, data)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", contentType)
	resp, err := formClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, err
}

var formClient = &http.Client{Transport: harness.Transport(nil)}

// throughAPI is the older API as this server has it: the file streams through
// the gateway into the store.
func throughAPI(ctx context.Context, s *sides, name string, data []byte) error {
	answer, err := postForm(ctx, s.srv.Gateway+"/api/v1/ingest/file", name, data)
	if err != nil {
		return err
	}
	var accepted struct {
		TaskID string `json:"task_id"`
	}
	if err := json.Unmarshal(answer, &accepted); err != nil || accepted.TaskID == "" {
		return fmt.Errorf("answer %s: %w", answer, err)
	}
	return nil
}

// spooler stands in for how such services are usually built: the API writes the
// form's file to its disk, copies it to the store, and then queues a task.
func spooler(s *sides, dir string) (send func(context.Context, *sides, string, []byte) error, stop func() error, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := spool(r, s, dir); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	go srv.Serve(ln)
	return func(ctx context.Context, _ *sides, name string, data []byte) error {
		_, err := postForm(ctx, "http://"+ln.Addr().String()+"/", name, data)
		return err
	}, srv.Close, nil
}

func spool(r *http.Request, s *sides, dir string) error {
	parts, err := r.MultipartReader()
	if err != nil {
		return err
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return err
		}
		if part.FileName() == "" {
			continue
		}
		tmp, err := os.CreateTemp(dir, "spool-")
		if err != nil {
			return err
		}
		defer os.Remove(tmp.Name())
		defer tmp.Close()
		if _, err := io.Copy(tmp, part); err != nil {
			return err
		}
		name := filepath.Base(part.FileName())
		if _, err := s.s3.FPutObject(r.Context(), "plain", name, tmp.Name(), minio.PutObjectOptions{PartSize: 16 << 20}); err != nil {
			return err
		}
		_, err = s.srv.Submit(r.Context(), "fn", `{"file":"plain/`+name+`"}`, nil)
		return err
	}
}
