package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// shareSet is some shared folders that tasks need together.
type shareSet struct {
	names []string // sorted
	tasks int      // queued tasks that need just these
}

// shareSets keeps each different set once, while a queued task needs it. Set 0
// is the empty one, which costs nothing.
type shareSets struct {
	all   []shareSet
	index map[string]int32
	free  []int32
}

// maxShareLanes is how many sets get lanes of their own. Names come from
// clients; tasks of further sets share the lane of mixed wishes.
const maxShareLanes = 256

// take counts one more task that needs these folders, and returns their set.
func (s *shareSets) take(names []string) int32 {
	if len(names) == 0 {
		return 0
	}
	if s.index == nil {
		s.index, s.all = map[string]int32{}, make([]shareSet, 1)
	}
	key := strings.Join(names, "/")
	i, ok := s.index[key]
	if !ok {
		if last := len(s.free) - 1; last >= 0 {
			i, s.free = s.free[last], s.free[:last]
		} else {
			i, s.all = int32(len(s.all)), append(s.all, shareSet{})
		}
		s.all[i] = shareSet{names: names}
		s.index[key] = i
	}
	s.all[i].tasks++
	return i
}

// drop counts one task less.
func (s *shareSets) drop(i int32) {
	if i == 0 {
		return
	}
	if s.all[i].tasks--; s.all[i].tasks == 0 {
		delete(s.index, strings.Join(s.all[i].names, "/"))
		s.all[i] = shareSet{}
		s.free = append(s.free, i)
	}
}

// names are the folders of a set; nil for the empty one.
func (s *shareSets) names(i int32) []string {
	if i == 0 {
		return nil
	}
	return s.all[i].names
}

// has reports whether the node has mounted all these folders.
func (r *room) has(shares []string) bool {
	for _, s := range shares {
		if !slices.Contains(r.Shares, s) {
			return false
		}
	}
	return true
}

// mounted reports whether some node that takes tasks has all these folders.
func (f *fleet) mounted(shares []string) bool {
	return len(shares) == 0 || slices.ContainsFunc(f.rooms, func(r *room) bool { return r.Open && r.has(shares) })
}

// among says which nodes count for a task, behind the word node.
func among(shares []string) string {
	switch len(shares) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(" with the shared folder %q", shares[0])
	}
	return fmt.Sprintf(" with the shared folders %q", shares)
}
