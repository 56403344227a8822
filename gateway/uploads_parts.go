package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

const (
	leastPart  = 16 << 20 // bytes of a part
	aimedParts = 9000     // of the largest files: S3's bound is 10,000
	partsAsked = 100      // signed in one request
)

// partSize is how long the parts of a file of size bytes are, in bytes: whole
// MiB, so that a person can reckon with them.
func partSize(size int64) int64 {
	const mib = 1 << 20
	each := (size + aimedParts - 1) / aimedParts
	return max(leastPart, (each+mib-1)/mib*mib)
}

func (g *Gateway) beginMultipart(ctx context.Context, ref functions.ObjectRef, checksums bool) (*functions.Multipart, error) {
	id, err := g.cfg.Objects.NewMultipart(ctx, ref, checksums)
	if err != nil {
		return nil, fmt.Errorf("begin the upload: %w", err)
	}
	return &functions.Multipart{ID: id, PartSize: partSize(ref.Size), Checksums: checksums}, nil
}

type multipartView struct {
	PartSize  int64      `json:"part_size"`
	Parts     int        `json:"parts"`
	Checksums bool       `json:"checksums"`
	Received  []partView `json:"received"`
	PartsURL  string     `json:"parts_url"`
}

type partView struct {
	Number int    `json:"number"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
}

// multipart shows an upload in parts. ErrNotFound: the store knows none such.
func (g *Gateway) multipart(ctx context.Context, t *functions.Task, fresh bool) (*multipartView, error) {
	size := t.Inputs[0].Size
	v := &multipartView{
		PartSize: t.Upload.PartSize, Parts: t.Upload.Parts(size), Checksums: t.Upload.Checksums,
		Received: []partView{}, PartsURL: "/v1/uploads/" + string(t.ID) + "/parts",
	}
	if fresh {
		return v, nil
	}
	held, err := g.cfg.Objects.Parts(ctx, t.Inputs[0].ObjectRef, t.Upload.ID)
	if err != nil {
		return v, fmt.Errorf("ask for the received parts: %w", err)
	}
	for _, p := range fitting(t.Upload, size, held) {
		v.Received = append(v.Received, partView{p.Number, p.Size, p.SHA256})
	}
	return v, nil
}

// fitting returns the parts that the store holds as they must be, by number.
func fitting(m *functions.Multipart, size int64, held []functions.Part) []functions.Part {
	var fit []functions.Part
	for _, p := range held {
		last := 0
		if len(fit) > 0 {
			last = fit[len(fit)-1].Number
		}
		if p.Number > last && p.Size == m.Length(size, p.Number) && p.Size > 0 && (!m.Checksums || p.SHA256 != "") {
			fit = append(fit, p)
		}
	}
	return fit
}

// missing names the first parts that are not among fit, in words; it is empty
// when the file is whole.
func missing(m *functions.Multipart, size int64, fit []functions.Part) string {
	const named = 10
	absent := m.Parts(size) - len(fit)
	var numbers []string
	for n, i := 1, 0; n <= m.Parts(size) && len(numbers) < min(absent, named); n++ {
		if i < len(fit) && fit[i].Number == n {
			i++
			continue
		}
		numbers = append(numbers, strconv.Itoa(n))
	}
	words := strings.Join(numbers, ", ")
	if absent > named {
		words += fmt.Sprintf(" and %d more", absent-named)
	}
	return words
}

// signParts signs the upload of some parts, each for exactly its length.
func (g *Gateway) signParts(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		Parts []struct {
			Number int    `json:"number"`
			SHA256 string `json:"sha256"`
		} `json:"parts"`
	}
	if err := decodeJSON(w, r, &ask); err != nil {
		return err
	}
	t, err := g.uploadOf(r)
	if err != nil {
		return err
	}
	bad := func(format string, args ...any) *functions.Error {
		return functions.Invalid("bad_parts", format, args...).WithField("parts")
	}
	switch {
	case t.State != functions.AwaitingUpload:
		return ended(&t)
	case t.Upload == nil:
		return functions.Conflict("no_parts", "upload %s does not come in parts but by %s", t.ID, methodOf(&t)).
			WithHint("send it with the signed request of GET /v1/uploads/%s", t.ID)
	case len(ask.Parts) == 0:
		return bad("no parts are named").WithHint(`send {"parts":[{"number":1}]}`)
	case len(ask.Parts) > partsAsked:
		return bad("%d parts at once are over %d", len(ask.Parts), partsAsked).WithHint("ask for them in several requests")
	}
	type signed struct {
		Number int `json:"number"`
		functions.PresignedRequest
	}
	ref, asked := t.Inputs[0].ObjectRef, make(map[int]bool, len(ask.Parts))
	out := make([]signed, 0, len(ask.Parts))
	for _, p := range ask.Parts {
		length := t.Upload.Length(ref.Size, p.Number)
		sum := strings.ToLower(p.SHA256)
		switch {
		case length == 0:
			return bad("the file has no part %d", p.Number).WithHint("its parts are 1 to %d", t.Upload.Parts(ref.Size))
		case asked[p.Number]:
			return bad("part %d is named twice", p.Number).WithHint("name each part once")
		case t.Upload.Checksums && !sha256Pattern.MatchString(sum):
			return functions.Invalid("bad_sha256", "part %d has no SHA-256 of 64 hexadecimal digits", p.Number).WithField("parts").
				WithHint("this upload was begun with part_checksums: send the sha256 of each part")
		case !t.Upload.Checksums && sum != "":
			return functions.Invalid("bad_sha256", "this upload takes no SHA-256 of parts").WithField("parts").
				WithHint("leave it out, or start the upload with part_checksums")
		}
		asked[p.Number] = true
		to, err := g.cfg.Objects.PresignPart(r.Context(), ref, t.Upload.ID, p.Number, length, sum, uploadTTL)
		if err != nil {
			return fmt.Errorf("sign part %d: %w", p.Number, err)
		}
		out = append(out, signed{p.Number, to})
	}
	return writeJSON(w, http.StatusOK, map[string]any{"parts": out})
}

// assembly is what came of making the object of its parts.
type assembly int

const (
	made    assembly = iota
	already          // the key has an object, so an earlier attempt has made it; the parts may still be there
	unknown          // the store knows no such upload: it was made, or given up
)

// assemble makes the object of the parts. It asks the store itself what is
// there, so the client need not know what the store said of each part. An object
// that is there already counts as made: whoever reports the arrival compares its
// size.
func (g *Gateway) assemble(ctx context.Context, t *functions.Task) (assembly, error) {
	ref, size := t.Inputs[0].ObjectRef, t.Inputs[0].Size
	held, err := g.cfg.Objects.Parts(ctx, ref, t.Upload.ID)
	if errors.Is(err, functions.ErrNotFound) {
		return unknown, nil
	}
	if err != nil {
		return unknown, fmt.Errorf("ask for the received parts: %w", err)
	}
	fit := fitting(t.Upload, size, held)
	if absent := missing(t.Upload, size, fit); absent != "" {
		return unknown, functions.Conflict("parts_missing", "upload %s lacks parts %s of %d", t.ID, absent, t.Upload.Parts(size)).
			WithHint("send them with requests signed by POST /v1/uploads/%s/parts, then complete again", t.ID)
	}
	_, err = g.cfg.Objects.CompleteMultipart(ctx, ref, t.Upload.ID, fit)
	switch {
	case errors.Is(err, functions.ErrConflict):
		return already, nil
	case errors.Is(err, functions.ErrNotFound):
		return unknown, nil
	case err != nil:
		return unknown, fmt.Errorf("make the file of its parts: %w", err)
	}
	return made, nil
}
