package functions

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// ShareName checks the name of a shared folder, which follows the rules of Name.
func ShareName(name string) error {
	if !isName(name) {
		return Invalid("bad_share", "%q is not the name of a shared folder", trim(strings.ToValidUTF8(name, "?"))).
			WithHint("use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	}
	return nil
}

// SharedFile splits SHARE/dir/file, the way inputs name files of shared folders.
// It refuses what is not such a path: a path that leaves the folder, or that is
// not written the shortest way.
func SharedFile(file string) (share, rel string, err error) {
	share, rel, _ = strings.Cut(file, "/")
	if err := ShareName(share); err != nil {
		return "", "", err
	}
	bad := rel == "" || len(rel) > 4096 || !utf8.ValidString(rel) || path.IsAbs(rel) || path.Clean(rel) != rel || rel == ".." || strings.HasPrefix(rel, "../") || rel == "." ||
		strings.ContainsFunc(rel, func(r rune) bool { return r < 0x20 || r == 0x7f })
	if bad {
		return "", "", Invalid("bad_share_path", "%q is not a file of a shared folder", trim(strings.ToValidUTF8(file, "?"))).
			WithHint("write SHARE/dir/file, without .. and //").WithField("file")
	}
	return share, rel, nil
}

// Shares are the names of the shared folders that inputs are in, sorted, each
// once; nil when there are none.
func Shares(inputs []Input) (names []string) {
	for _, in := range inputs {
		if in.File == "" {
			continue
		}
		share, _, _ := strings.Cut(in.File, "/")
		if i, found := slices.BinarySearch(names, share); !found {
			names = slices.Insert(names, i, share)
		}
	}
	return names
}
