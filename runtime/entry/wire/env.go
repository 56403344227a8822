package wire

import "strings"

// MergeEnv lays variables over others, as those of Orders over the entry
// program's own: each name comes once, with the value that came last.
func MergeEnv(under, over []string) []string {
	at := make(map[string]int, len(under)+len(over))
	merged := make([]string, 0, len(under)+len(over))
	for _, list := range [][]string{under, over} {
		for _, kv := range list {
			name, _, _ := strings.Cut(kv, "=")
			if i, ok := at[name]; ok {
				merged[i] = kv
				continue
			}
			at[name] = len(merged)
			merged = append(merged, kv)
		}
	}
	return merged
}
