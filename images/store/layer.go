package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
)

// fetchTries is how often a layer is asked for in one pull.
const fetchTries = 4

// fetchLayer makes a layer present. What a registry breaks off is asked for
// again.
func (s *Store) fetchLayer(ctx context.Context, l *fetching, report func(functions.Bytes)) error {
	present, err := s.hasLayer(l.diffID.Hex)
	if present || err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.unpackLayer(ctx, l, report)
		if err == nil || try == fetchTries || ctx.Err() != nil || lasting(err) {
			return err
		}
		s.cfg.Log.Warn("layer did not come whole; trying again", "layer", l.diffID, "try", try, "err", err)
		select {
		case <-time.After(200 * time.Millisecond << try):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Store) hasLayer(diffID string) (bool, error) {
	_, err := os.Stat(s.path("layers", diffID))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unpackLayer unpacks a layer beside the others and moves it among them when it
// is whole and what its digest says.
func (s *Store) unpackLayer(ctx context.Context, l *fetching, report func(functions.Bytes)) (err error) {
	t, err := s.temp()
	if err != nil {
		return fmt.Errorf("make room for a layer: %w", err)
	}
	account := &account{store: s}
	defer func() { err = errors.Join(err, t.close()); account.close() }()
	dir := filepath.Join(t.dir, "fs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make room for a layer: %w", err)
	}
	var done functions.Bytes
	stream, err := l.uncompressed(func(n int) { done += functions.Bytes(n); report(done) })
	if err != nil {
		return err
	}
	defer stream.Close()
	digest := sha256.New()
	body := bufio.NewReaderSize(io.TeeReader(untilDone{ctx, stream}, digest), 1<<20)
	if err := unpack(dir, body, account.spend); err != nil {
		return err
	}
	// Behind the end of the tar stream there may be padding, which counts for both
	// digests.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("read the layer: %w", err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != l.diffID.Hex {
		return functions.Invalid("bad_layer", "a layer of the image is not what its configuration says: sha256:%s instead of %s", got, l.diffID)
	}
	return s.admit(t, l.diffID.Hex, account)
}

// admit moves an unpacked layer into the store.
func (s *Store) admit(t *temp, diffID string, account *account) error {
	whole := filepath.Join(t.dir, "layer")
	if err := os.Mkdir(whole, 0o700); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(t.dir, "fs"), filepath.Join(whole, "fs")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(whole, "size"), fmt.Append(nil, int64(account.spent)), 0o600); err != nil {
		return err
	}
	// A power cut must not leave the name of a layer and not its files.
	if err := unix.Syncfs(int(t.hold.Fd())); err != nil {
		return fmt.Errorf("write a layer to the disk: %w", err)
	}
	s.mu.Lock() // from one moment to the next, the layer counts by itself
	defer s.mu.Unlock()
	unlock, err := s.lock(exclusive)
	if err != nil {
		return err
	}
	defer unlock()
	if present, err := s.hasLayer(diffID); present || err != nil { // another process was faster
		return err
	}
	if err := os.Rename(whole, s.path("layers", diffID)); err != nil {
		return err
	}
	account.settle()
	return nil
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// advance is what an account takes of the budget at a time.
const advance = 16 * functions.MiB

// account is what one layer that is being unpacked takes of the budget.
type account struct {
	store         *Store
	spent, booked functions.Bytes
}

// spend notes that n bytes are about to be written, and refuses what the budget
// does not hold.
func (a *account) spend(n functions.Bytes) error {
	if a.spent+n > a.booked {
		err := a.book(max(n, advance), false)
		if err != nil { // near the limit
			err = a.book(max(n, advance/64), false)
		}
		if err != nil { // images that are not in use make room
			err = a.book(n, true)
		}
		if err != nil {
			return err
		}
	}
	a.spent += n
	return nil
}

// close gives back what was booked.
func (a *account) close() {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.settle()
}

// settle is close for one who holds the store's mu.
func (a *account) settle() {
	a.store.pending -= a.booked
	a.booked = 0
}

// book takes n of the budget. With evict, images that are not in use make room.
func (a *account) book(n functions.Bytes, evict bool) error {
	s := a.store
	s.mu.Lock()
	defer s.mu.Unlock()
	need := s.pending + n
	fits, err := s.fits(need)
	if err == nil && !fits && evict {
		if _, err = s.collect(need, false); err == nil {
			fits, err = s.fits(need)
		}
	}
	switch {
	case err != nil:
		return err
	case !fits:
		return s.tooLarge()
	}
	s.pending = need
	a.booked += n
	return nil
}

// fits reports whether the budget holds need beside the layers that are there.
func (s *Store) fits(need functions.Bytes) (bool, error) {
	if s.cfg.Budget == 0 {
		return true, nil
	}
	unlock, err := s.lock(shared)
	if err != nil {
		return false, err
	}
	defer unlock()
	sizes, err := s.layerSizes()
	for _, size := range sizes {
		need += size
	}
	return need <= s.cfg.Budget, err
}

func (s *Store) tooLarge() error {
	return functions.NewError(functions.ErrTooLarge, "image_budget", "the image does not fit into the %s that images may take of the disk", s.cfg.Budget).
		WithHint("give images more of the disk, or remove images that are in use")
}
