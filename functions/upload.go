package functions

import "time"

// Multipart is how an awaited file comes in parts. It is chosen when the upload
// is announced and stays: whoever resumes it cuts the file at the same places.
type Multipart struct {
	ID        string `json:"id"`                  // the store's name for the upload
	PartSize  int64  `json:"part_size"`           // bytes of every part but the last
	Checksums bool   `json:"checksums,omitempty"` // every part brings its SHA-256
}

// Parts is how many parts a file of size bytes has.
func (m Multipart) Parts(size int64) int {
	return int((size + m.PartSize - 1) / m.PartSize)
}

// Length is the size in bytes of part n, counted from 1; 0 when the file has no
// such part.
func (m Multipart) Length(size int64, n int) int64 {
	if n < 1 || n > m.Parts(size) {
		return 0
	}
	return min(m.PartSize, size-int64(n-1)*m.PartSize)
}

// Part is one that the store holds of an upload that is not complete.
type Part struct {
	Number int    `json:"number"` // from 1
	Size   int64  `json:"size"`
	ETag   string `json:"etag"`
	SHA256 string `json:"sha256,omitempty"` // hex; empty = the store verified none
}

// PostForm is an upload that a plain HTML form may send: the fields first, the
// file last, as multipart/form-data.
type PostForm struct {
	URL       string            `json:"url"`
	Fields    map[string]string `json:"fields"`
	FileField string            `json:"file_field"` // name of the form's file element
	ExpiresAt time.Time         `json:"expires_at"`
}
