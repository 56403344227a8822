package scheduler

import (
	"encoding/hex"

	"github.com/spillway/spillway/functions"
)

// key is a task id in 16 bytes.
type key [16]byte

// keyOf packs a task id; it reports false for what is no UUID.
func keyOf(id functions.TaskID) (k key, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return k, false
	}
	var h [32]byte
	copy(h[0:], id[0:8])
	copy(h[8:], id[9:13])
	copy(h[12:], id[14:18])
	copy(h[16:], id[19:23])
	copy(h[20:], id[24:36])
	_, err := hex.Decode(k[:], h[:])
	return k, err == nil
}

func (k key) id() functions.TaskID {
	var b [36]byte
	hex.Encode(b[0:8], k[0:4])
	hex.Encode(b[9:13], k[4:6])
	hex.Encode(b[14:18], k[6:8])
	hex.Encode(b[19:23], k[8:10])
	hex.Encode(b[24:36], k[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return functions.TaskID(b[:])
}

// slot is a task's place in the pool.
type slot uint32

const none = ^slot(0)

// where says where the leader keeps a task.
type where uint8

const (
	nowhere   where = iota // not in the pool
	uploading              // in the list of awaited uploads
	delayed                // in the heap of not-before times
	waiting                // in a lane
	proposed               // an assignment is on its way to the log
	running                // on a node
	settling               // a verdict is on its way to the log
)

// entry is all that the leader keeps of a live task that is not running.
type entry struct {
	key      key
	seq      uint64 // of the last change known
	since    int64  // ns: when the wait began that spill_after counts
	entered  int64  // ns: when it became ready, or was accepted if its age is limited: the limit counts from here
	next     slot   // in its lane; its place in the heap while delayed; the next free entry
	prev     slot
	lane     int32 // -1 outside lanes
	fn       int32
	ord      uint32 // its number in the lane
	attempt  int32
	shares   int32  // its set of shared folders; 0 = none
	route    uint16 // index of its route's reason
	where    where
	snapshot bool // seq is from the first read, which held every event of its message
	queued   bool // counts as waiting
	picky    bool // has an avoidance
	only     bool // its device was fixed by a respawn or a client
	front    bool
	aged     bool // has a limit on its age
	demand   demand
	prio     int8
	size     size // of its inputs
}

// chunk is how many entries are allocated at once. Chunks never move.
const chunk = 1024

// pool holds the entries of all live tasks.
type pool struct {
	chunks []*[chunk]entry
	free   slot
	used   slot
	index  map[key]slot
}

func newPool() *pool { return &pool{free: none, index: map[key]slot{}} }

func (p *pool) at(s slot) *entry { return &p.chunks[s/chunk][s%chunk] }

func (p *pool) find(k key) (slot, bool) {
	s, ok := p.index[k]
	return s, ok
}

func (p *pool) add(k key) slot {
	s := p.free
	if s != none {
		p.free = p.at(s).next
	} else {
		s = p.used
		p.used++
		if int(s/chunk) == len(p.chunks) {
			p.chunks = append(p.chunks, new([chunk]entry))
		}
	}
	*p.at(s) = entry{key: k, lane: -1, next: none, prev: none}
	p.index[k] = s
	return s
}

func (p *pool) drop(s slot) {
	e := p.at(s)
	delete(p.index, e.key)
	*e = entry{next: p.free}
	p.free = s
}
