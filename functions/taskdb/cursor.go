package taskdb

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spillway/spillway/functions"
)

// cursor is the last row of a page; the next page begins after it. It means the
// same on every server. Listings by id prefix go by id, all others by time.
type cursor struct {
	created, n int64
	id         []byte
}

func (c cursor) String() string {
	text := fmt.Sprintf("t%d.%d", c.created, c.n)
	if c.id != nil {
		text = fmt.Sprintf("i%x", c.id)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseCursor reads what String wrote. byID says which of the two kinds the
// query needs.
func parseCursor(s string, byID bool) (*cursor, error) {
	if s == "" {
		return nil, nil
	}
	bad := functions.Invalid("bad_cursor", "this cursor is not from the listing that it is used with").WithField("cursor").
		WithHint("pass the cursor of the page before, with the same filters, or none")
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) > 64 {
		return nil, bad
	}
	var c cursor
	if byID {
		digits, ok := strings.CutPrefix(string(raw), "i")
		if c.id, err = hex.DecodeString(digits); !ok || err != nil || len(c.id) != 16 {
			return nil, bad
		}
		return &c, nil
	}
	if _, err := fmt.Sscanf(string(raw), "t%d.%d", &c.created, &c.n); err != nil || c.String() != s {
		return nil, bad
	}
	return &c, nil
}
