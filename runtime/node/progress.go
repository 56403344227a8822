package node

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/spillway/spillway/functions"
)

// longestWord bounds the stage and the message of a progress report.
const longestWord = 256

// reporter holds the newest progress of an attempt, and says when it changes.
type reporter struct {
	mu     sync.Mutex // guards the fields below
	latest functions.Progress
	news   bool
}

func (r *reporter) offer(p functions.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p != r.latest {
		r.latest, r.news = p, true
	}
}

func (r *reporter) take() (functions.Progress, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.news
	r.news = false
	return r.latest, news
}

// offerLine reads progress out of a log line, if it is there.
func (r *reporter) offerLine(text string) {
	if p, ok := progressOfLog(text); ok {
		r.offer(p)
	}
}

// watchProgress reports at most once in each period, from the progress file and
// from log lines, whichever spoke last.
func (n *Node) watchProgress(ctx context.Context, a *attempt) {
	var seen string
	for functions.Sleep(ctx, n.time.Progress) {
		if text := lastProgress(a.folder.work()); text != seen {
			seen = text
			if p, ok := progressOfFile(text); ok {
				a.news.offer(p)
			}
		}
		if p, ok := a.news.take(); ok {
			p.Task, p.Attempt, p.Phase, p.At = a.key.task, a.key.attempt, functions.PhaseRun, n.cfg.Now()
			n.cfg.Link.Progress(p)
		}
	}
}

// lastProgress is the last complete line of the progress file; empty when there
// is none, or the container has made something else of it.
func lastProgress(work string) string {
	root, err := os.OpenRoot(work)
	if err != nil {
		return ""
	}
	defer root.Close()
	f, err := openRegular(root, "progress")
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 4096
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, window)
	k, err := f.ReadAt(buf, max(0, info.Size()-window))
	if err != nil && err != io.EOF {
		return ""
	}
	text := string(buf[:k])
	end := strings.LastIndexByte(text, '\n')
	if end < 0 {
		return ""
	}
	text = text[:end]
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// progressOfFile reads "0.42 decode message", or the same as JSON.
func progressOfFile(text string) (functions.Progress, bool) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		var p struct {
			Fraction       float64
			Stage, Message string
		}
		if json.Unmarshal([]byte(text), &p) != nil {
			return functions.Progress{}, false
		}
		return progress(p.Fraction, p.Stage, p.Message)
	}
	fraction, rest, _ := strings.Cut(text, " ")
	f, err := strconv.ParseFloat(fraction, 64)
	if err != nil {
		return functions.Progress{}, false
	}
	stage, message, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return progress(f, stage, strings.TrimSpace(message))
}

var (
	percentFirst = regexp.MustCompile(`^\s*\[\s*(\d{1,3}(?:\.\d+)?)\s?%\]\s*(.*)$`)
	percentLast  = regexp.MustCompile(`^\s*Stage:\s*(.+?)\s*\((\d{1,3}(?:\.\d+)?)\s?%\)`)
)

// progressOfLog reads "[75%] message" and "Stage: name (67%)".
func progressOfLog(text string) (functions.Progress, bool) {
	if len(text) > 1024 || !strings.Contains(text, "%") {
		return functions.Progress{}, false
	}
	if m := percentFirst.FindStringSubmatch(text); m != nil {
		return percent(m[1], "", m[2])
	}
	if m := percentLast.FindStringSubmatch(text); m != nil {
		return percent(m[2], m[1], "")
	}
	return functions.Progress{}, false
}

func percent(number, stage, message string) (functions.Progress, bool) {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return functions.Progress{}, false
	}
	return progress(f/100, stage, message)
}

// progress refuses fractions that are none.
func progress(fraction float64, stage, message string) (functions.Progress, bool) {
	if math.IsNaN(fraction) || fraction < 0 || fraction > 1 {
		return functions.Progress{}, false
	}
	return functions.Progress{Fraction: fraction, Stage: clip(stage, longestWord), Message: clip(message, longestWord)}, true
}
