package framelog

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Remove deletes a log. One that is not there is no error.
func Remove(path string) error {
	numbers, err := segments(path)
	for _, n := range numbers {
		if e := os.Remove(segment(path, n)); e != nil && !os.IsNotExist(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// segments are the numbers of a log's files that are there, in order.
func segments(path string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if os.IsNotExist(err) {
		return nil, nil
	}
	var numbers []int
	base := filepath.Base(path)
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), base)
		if !ours {
			continue
		}
		if rest == "" {
			numbers = append(numbers, 0)
			continue
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(rest, ".")); err == nil && n > 0 && rest == "."+strconv.Itoa(n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// abandoned says that nobody writes a log any more.
func abandoned(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true // it was never begun, or is deleted
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}
