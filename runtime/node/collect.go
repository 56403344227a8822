package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strconv"

	"github.com/spillway/spillway/functions"
	"golang.org/x/sync/errgroup"
)

const (
	bucket = "results"
	// mostOutputs is the most files that an attempt may leave.
	mostOutputs = 10_000
	// mostListed is the most room, in bytes of JSON, for the list of outputs in the
	// fin event: a log message holds 512 KiB, and the result may take half of it.
	mostListed = 128 * functions.KiB
	// manifest is the last output of an attempt with a longer list, and holds all of it.
	manifest = "_outputs.json"
	// uploads at once, of one attempt: outputs are mostly small, and latency counts.
	uploads = 4
)

func (a *attempt) prefix() string {
	return string(a.key.task) + "/" + strconv.Itoa(a.key.attempt)
}

// collect brings what the container left to the store. It is only called when no
// process of the container is alive, so that nothing changes under it.
func (n *Node) collect(ctx context.Context, a *attempt, out *functions.Outcome) *functions.Failure {
	if f := n.checkDisk(a); f != nil {
		return f
	}
	// Root never leaves the folder, whatever links the container has made in it.
	root, err := os.OpenRoot(a.folder.work())
	if err != nil {
		return diskFailure("open the outputs", err)
	}
	defer root.Close()
	if out.Failure == nil {
		if f := n.collectResult(ctx, a, root, out); f != nil {
			return f
		}
	}
	names, skipped, err := listOutputs(root)
	switch {
	case errors.Is(err, functions.ErrInvalid):
		return &functions.Failure{Class: functions.BadOutput, Message: err.Error()}
	case err != nil:
		return diskFailure("list the outputs", err)
	}
	if skipped > 0 {
		a.output.note(fmt.Sprintf("%d entries of %s are not regular files and were not kept", skipped, outputDir))
	}
	outputs := make([]functions.Output, len(names))
	group, together := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	for i, name := range names {
		group.Go(func() error {
			ref, err := n.upload(together, root, path.Join("out", name), a.prefix()+"/"+name)
			outputs[i] = functions.Output{Name: name, ObjectRef: ref}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return storeFailure("store the outputs", err)
	}
	out.Outputs, err = n.shorten(ctx, a, outputs)
	if err != nil {
		return storeFailure("store the list of outputs", err)
	}
	return nil
}

// shorten returns the outputs as the fin event can carry them: all, or the first
// ones and the manifest.
func (n *Node) shorten(ctx context.Context, a *attempt, all []functions.Output) ([]functions.Output, error) {
	room := int(mostListed)
	for i, o := range all {
		one, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode output: %w", err)
		}
		if room -= len(one) + 1; room >= 0 {
			continue
		}
		whole, err := json.Marshal(all)
		if err != nil {
			return nil, fmt.Errorf("encode outputs: %w", err)
		}
		ref, err := n.putBytes(ctx, a.prefix()+".outputs.json", whole, "application/json")
		return append(all[:i:i], functions.Output{Name: manifest, ObjectRef: ref}), err
	}
	return all, nil
}

// listOutputs names every regular file under out/, in order. Links, pipes and
// devices are counted and never opened.
func listOutputs(root *os.Root) (names []string, skipped int, err error) {
	info, err := root.Lstat("out")
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, 0, nil // the container has put something else in its place
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", outputDir, err)
	}
	out, err := root.OpenRoot("out")
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", outputDir, err)
	}
	defer out.Close()
	err = walk(out, func(name string, e fs.DirEntry) error {
		switch {
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			skipped++
			return nil
		case len(names) == mostOutputs:
			return functions.Invalid("too_many_outputs", "there are over %d output files", mostOutputs)
		}
		if err := functions.OutputName(name); err != nil {
			return err
		}
		names = append(names, name)
		return nil
	})
	return names, skipped, err
}

// upload stores one file, in a stream. A store that does not answer is asked
// again for a while: the work of the whole attempt is at stake.
func (n *Node) upload(ctx context.Context, root *os.Root, file, key string) (functions.ObjectRef, error) {
	f, err := openRegular(root, file)
	if err != nil {
		return functions.ObjectRef{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return functions.ObjectRef{}, err
	}
	head := make([]byte, 512)
	k, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return functions.ObjectRef{}, err
	}
	return n.put(ctx, key, f, info.Size(), contentType(file, head[:k]))
}

// stored is what the node brings to the store. A store may read it in parts, each
// from its own place, and none of it is held in memory for that.
type stored interface {
	io.ReadSeeker
	io.ReaderAt
}

// put stores size bytes of r, from its beginning at each try.
func (n *Node) put(ctx context.Context, key string, r stored, size int64, contentType string) (ref functions.ObjectRef, err error) {
	until := n.cfg.Now().Add(n.time.Store)
	for wait := n.time.Store / 240; ; wait = min(2*wait, n.time.Store/12) { // half a second to ten
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return ref, err
		}
		bounded, cancel := context.WithTimeoutCause(ctx, transferTime(size), functions.ErrTimeout)
		ref, err = n.cfg.Objects.Put(bounded, bucket, key, r, size, contentType)
		cancel()
		if err == nil || errors.Is(err, functions.ErrInvalid) || errors.Is(err, functions.ErrTooLarge) {
			return ref, err
		}
		if n.cfg.Now().After(until) || !functions.Sleep(ctx, wait) {
			return ref, err
		}
	}
}

func (n *Node) putBytes(ctx context.Context, key string, data []byte, contentType string) (functions.ObjectRef, error) {
	return n.put(ctx, key, bytes.NewReader(data), int64(len(data)), contentType)
}

// contentType trusts the name first: bytes cannot tell CSV from text.
func contentType(name string, head []byte) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	if len(head) == 0 {
		return "application/octet-stream"
	}
	return http.DetectContentType(head)
}

func storeFailure(what string, err error) *functions.Failure {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return diskFailure(what, err)
	}
	return &functions.Failure{Class: functions.Store, Message: what + ": " + err.Error()}
}
