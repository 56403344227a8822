package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/content"
)

// Ref names a file that is somewhere already: in a shared folder, at a URL, or
// in the object store. Nothing of it passes through the server but its first
// bytes; the node brings the rest.
type Ref struct {
	Name        string // of the input; empty = the base name of where it is
	File        string // SHARE/path
	URL         string
	Bucket      string
	Key         string
	VersionID   string
	ContentType string // declared; empty = what the place itself says
}

// Shares looks into the shared folders that are mounted here. ErrUnavailable: the
// share is not, which says nothing of the nodes.
type Shares interface {
	Look(file string, most int64) (ref functions.ObjectRef, head []byte, err error)
}

// Web asks servers for the first bytes of files. A size of functions.UnknownSize
// means that the server does not say. ErrUnavailable: it does not answer now.
type Web interface {
	Probe(ctx context.Context, url string, most int64) (ref functions.ObjectRef, head []byte, err error)
	Check(url string) error // of its text alone
}

// lookups is how many refs of one call are looked at at the same time.
const lookups = 8

// unnamed is the name of a file at a URL that ends in none.
const unnamed = "download"

// named checks the form of a ref and gives it its name.
func (r Ref) named() (Ref, error) {
	places := 0
	for _, there := range []bool{r.File != "", r.URL != "", r.Bucket != "" || r.Key != "" || r.VersionID != ""} {
		if there {
			places++
		}
	}
	if places != 1 {
		return r, functions.Invalid("bad_input", "an input is in one place, and this one is in %d", places).
			WithHint("give it a file (SHARE/path), a url, or a bucket and a key").WithField("inputs")
	}
	switch {
	case r.File != "":
		if _, _, err := functions.SharedFile(r.File); err != nil {
			return r, err
		}
		r.Name = cmp.Or(r.Name, path.Base(r.File))
	case r.URL != "":
		r.Name = cmp.Or(r.Name, urlName(r.URL))
	case r.Bucket == "" || r.Key == "":
		return r, functions.Invalid("bad_input", "an object needs a bucket and a key").WithField("inputs")
	default:
		r.Name = cmp.Or(r.Name, path.Base(r.Key))
	}
	return r, functions.FileName(r.Name)
}

// urlName is the last part of a URL's path, when it can name a file.
func urlName(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || strings.HasSuffix(u.Path, "/") {
		return unnamed
	}
	if name := path.Base(u.Path); functions.FileName(name) == nil {
		return name
	}
	return unnamed
}

// Look finds out what is there and makes an input of it. A file that is certainly
// not there, or that may not be had, is an error now: ErrNotFound, ErrInvalid,
// ErrForbidden, ErrTooLarge. A share that is not mounted here, and a server that
// does not answer, are left to the node.
func (d *Door) Look(ctx context.Context, r Ref) (functions.Input, content.Type, error) {
	r, err := r.named()
	if err != nil {
		return functions.Input{}, content.Type{}, err
	}
	in := functions.Input{Name: r.Name, File: r.File, URL: r.URL}
	var head []byte
	switch {
	case r.File != "":
		in.ObjectRef, head, err = d.lookShare(r.File)
	case r.URL != "":
		in.ObjectRef, head, err = d.lookWeb(ctx, r.URL)
	default:
		in.ObjectRef, head, err = d.lookStore(ctx, r)
	}
	if err != nil {
		return functions.Input{}, content.Type{}, err
	}
	what := content.Detect(head, in.Name, cmp.Or(r.ContentType, in.ContentType))
	in.ContentType = what.ContentType
	return in, what, nil
}

func (d *Door) lookShare(file string) (functions.ObjectRef, []byte, error) {
	if d.cfg.Shares == nil {
		return functions.ObjectRef{Size: functions.UnknownSize}, nil, nil
	}
	ref, head, err := d.cfg.Shares.Look(file, content.HeadSize)
	if errors.Is(err, functions.ErrUnavailable) {
		return functions.ObjectRef{Size: functions.UnknownSize}, nil, nil
	}
	return ref, head, err
}

func (d *Door) lookWeb(ctx context.Context, url string) (functions.ObjectRef, []byte, error) {
	if d.cfg.Web == nil {
		return functions.ObjectRef{}, nil, functions.Invalid("no_urls", "this server takes no inputs from URLs").WithField("url")
	}
	ref, head, err := d.cfg.Web.Probe(ctx, url, content.HeadSize)
	if errors.Is(err, functions.ErrUnavailable) && ctx.Err() == nil {
		return functions.ObjectRef{Size: functions.UnknownSize}, nil, nil
	}
	return ref, head, err
}

func (d *Door) lookStore(ctx context.Context, r Ref) (functions.ObjectRef, []byte, error) {
	ref, head, err := d.cfg.Objects.Head(ctx, r.Bucket, r.Key, r.VersionID, functions.UnknownSize, content.HeadSize)
	if errors.Is(err, functions.ErrNotFound) {
		return ref, nil, functions.NotFound("input_not_found", "there is no object %.200q in bucket %.80q", r.Key, r.Bucket).
			WithHint("upload it first, or name one that is there").WithField("key").WithCause(err)
	}
	if err != nil {
		return ref, nil, fmt.Errorf("look at an input object: %w", err)
	}
	return ref, head, nil
}

// lookAll makes inputs of a call's refs. The first of all inputs decides what the
// call works on.
func (d *Door) lookAll(ctx context.Context, c Call) (Call, error) {
	if len(c.Refs) == 0 {
		return c, nil
	}
	inputs, types, errs := make([]functions.Input, len(c.Refs)), make([]content.Type, len(c.Refs)), make([]error, len(c.Refs))
	room := make(chan struct{}, lookups)
	var group sync.WaitGroup
	for i, r := range c.Refs {
		room <- struct{}{}
		group.Go(func() {
			inputs[i], types[i], errs[i] = d.Look(ctx, r)
			<-room
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			return c, inField(err, i)
		}
	}
	if len(c.Inputs) == 0 {
		c.Content = types[0]
	}
	c.Inputs = append(c.Inputs[:len(c.Inputs):len(c.Inputs)], inputs...)
	return c, nil
}

// inField says which input an error is about.
func inField(err error, i int) error {
	var known *functions.Error
	if !errors.As(err, &known) {
		return err
	}
	return known.WithField(strings.TrimSuffix(fmt.Sprintf("inputs/%d/%s", i, strings.TrimPrefix(known.Field, "inputs")), "/"))
}
