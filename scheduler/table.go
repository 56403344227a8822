package scheduler

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/functions"
)

// forgetAfter is how long a silent node stays in the table.
const forgetAfter = time.Hour

// table keeps the newest heartbeat of every node, on every server.
type table struct {
	mu   sync.Mutex // guards seen
	seen map[functions.NodeID]sighting
}

type sighting struct {
	hb functions.Heartbeat
	at time.Time // when this server heard it
}

func newTable() *table { return &table{seen: map[functions.NodeID]sighting{}} }

func (t *table) put(hb functions.Heartbeat, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[hb.Node.ID] = sighting{hb, at}
}

// fresh lists the nodes heard within a while.
func (t *table) fresh(now time.Time, within time.Duration) (ids []functions.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.seen {
		if now.Sub(s.at) <= within {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *table) list(now time.Time, fresh time.Duration) []functions.NodeStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]functions.NodeStatus, 0, len(t.seen))
	for id, s := range t.seen {
		if now.Sub(s.at) > forgetAfter {
			delete(t.seen, id)
			continue
		}
		free := s.hb.Node.Capacity
		free.Tasks -= len(s.hb.Running)
		all = append(all, functions.NodeStatus{
			NodeInfo: s.hb.Node, LastSeen: s.at, Alive: now.Sub(s.at) <= fresh,
			Free: free, Running: s.hb.Running,
		})
	}
	slices.SortFunc(all, func(a, b functions.NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
