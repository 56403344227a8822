package sigv4

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{20, 100 << 10, 5 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			c := invoke()
			c.body = bytes.Repeat([]byte{'1'}, size)
			r, body := c.arrived(b)
			v := newTest()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
