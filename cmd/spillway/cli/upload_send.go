package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/spillway/spillway/functions"
)

// send brings to the store what it does not have, and says that it is there.
func (u *uploader) send(ctx context.Context, s session) error {
	u.bar = startProgress(u.app.Err, u.quiet, s.Name, s.Size)
	defer u.bar.stop()
	const rounds = 3 // a store that keeps losing parts is not to be fed for ever
	for round := 1; ; round++ {
		var err error
		switch {
		case s.Multipart != nil:
			err = u.sendParts(ctx, s)
		case s.Upload != nil:
			err = u.sendWhole(ctx, s)
		default:
			err = errors.New("the gateway did not say how it wants the file")
		}
		if err == nil {
			err = u.unchanged()
		}
		if err != nil {
			return err
		}
		if err = u.complete(ctx, s.ID); err == nil {
			u.bar.finish()
			return nil
		}
		var e *functions.Error
		if round == rounds || !errors.As(err, &e) || e.Code != "parts_missing" {
			return err
		}
		u.say("%s; sending again what is missing", e.Message)
		if s, err = u.again(ctx, s.ID); err != nil {
			return err
		}
		if s.State != functions.AwaitingUpload {
			return nil // the store's own event was first
		}
	}
}

// sendWhole sends the file as one piece.
func (u *uploader) sendWhole(ctx context.Context, s session) error {
	p := piece{what: "the file", length: s.Size}
	fresh := s.Upload
	err := u.sendPiece(ctx, p, func(string) (functions.PresignedRequest, error) {
		if to := fresh; to != nil {
			fresh = nil
			return *to, nil
		}
		again, err := u.again(ctx, s.ID)
		if err == nil && again.Upload == nil {
			err = functions.Conflict("upload_ended", "upload %s is %s", s.ID, again.State)
		}
		if err != nil {
			return functions.PresignedRequest{}, err
		}
		return *again.Upload, nil
	})
	return err
}

// sendParts sends the parts that the store does not hold, several at a time. The
// first part that fails for good ends the others.
func (u *uploader) sendParts(ctx context.Context, s session) error {
	m := s.Multipart
	if m.PartSize <= 0 {
		return errors.New("the gateway named no size of the parts")
	}
	held := make(map[int]functions.Part, len(m.Received))
	for _, r := range m.Received {
		held[r.Number] = r
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range min(u.o.parallel, m.Parts(s.Size)) {
		workers.Go(func() {
			for n := range numbers {
				if err := u.sendPart(ctx, s, n, held[n]); err != nil {
					stop(err) // the first of them counts
				}
			}
		})
	}
	for n := 1; n <= m.Parts(s.Size) && ctx.Err() == nil; n++ {
		select {
		case numbers <- n:
		case <-ctx.Done():
		}
	}
	close(numbers)
	workers.Wait()
	return context.Cause(ctx)
}

// sendPart sends part n, unless the store holds these bytes already.
func (u *uploader) sendPart(ctx context.Context, s session, n int, held functions.Part) error {
	p := piece{what: fmt.Sprintf("part %d", n), off: int64(n-1) * s.Multipart.PartSize, length: s.Multipart.Length(s.Size, n), hashed: s.Multipart.Checksums}
	if held.Number == n && held.Size == p.length {
		same := held.SHA256 == ""
		if !same {
			sum, err := u.hash(p.off, p.length)
			if err != nil {
				return err
			}
			same = sum == held.SHA256
		}
		if same {
			u.bar.skip(p.length)
			return nil
		}
	}
	return u.sendPiece(ctx, p, func(sum string) (to functions.PresignedRequest, err error) {
		one := map[string]any{"number": n}
		if sum != "" {
			one["sha256"] = sum
		}
		var signed struct {
			Parts []functions.PresignedRequest `json:"parts"`
		}
		err = patiently(ctx, func() error {
			raw, err := u.c.call(ctx, http.MethodPost, uploadPath(s.ID, "/parts"), map[string]any{"parts": []any{one}})
			if err != nil {
				return err
			}
			return decode(raw, &signed)
		})
		if err == nil && len(signed.Parts) != 1 {
			err = fmt.Errorf("the gateway signed %d requests for one part", len(signed.Parts))
		}
		if err != nil {
			return to, err
		}
		return signed.Parts[0], nil
	})
}
