package scheduler

import (
	"cmp"
	"slices"

	"github.com/spillway/spillway/functions"
)

// fleet is every node that the leader knows.
type fleet struct {
	nodes      map[functions.NodeID]*node
	rooms      []*room       // of the nodes, by name
	generation uint64        // grows when anything in rooms changes
	census     stamp[supply] // of the rooms
}

// stamp is a value that holds until the fleet changes.
type stamp[T any] struct {
	value T
	at    uint64 // the fleet's generation; 0 = never computed
}

// get returns the value, computing it anew when the fleet has changed.
func (s *stamp[T]) get(generation uint64, compute func() T) T {
	if s.at != generation {
		s.value, s.at = compute(), generation
	}
	return s.value
}

// node returns the record of a node, making it when it is new.
func (t *term) node(id functions.NodeID) *node {
	if n := t.nodes[id]; n != nil {
		return n
	}
	n := newNode(id, t.now)
	t.generation++
	t.nodes[id] = n
	t.rooms = append(t.rooms, &n.room)
	slices.SortFunc(t.rooms, func(a, b *room) int { return cmp.Compare(a.ID, b.ID) })
	return n
}

func (t *term) forget(id functions.NodeID) {
	t.generation++
	delete(t.nodes, id)
	t.rooms = slices.DeleteFunc(t.rooms, func(r *room) bool { return r.ID == id })
}

// refresh decides which nodes take new tasks.
func (t *term) refresh() {
	for _, n := range t.nodes {
		open := n.heard && n.ready && t.now.Sub(n.seen) <= t.cfg.HeartbeatFresh
		if open != n.Open {
			n.Open = open
			t.generation++
		}
	}
}

func (t *term) anyOpen() bool {
	return slices.ContainsFunc(t.rooms, func(r *room) bool { return r.Open })
}
