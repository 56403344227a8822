package tasklog

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/spillway/spillway/functions"
)

// startCluster runs three outside servers, as a user's cluster would be set up.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var all []*server.Server
	var routes []*url.URL
	for range 3 { // every server must know all routes when it starts
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, &url.URL{Scheme: "nats", Host: ln.Addr().String()})
		ln.Close()
	}
	for i := range 3 {
		port, err := strconv.Atoi(routes[i].Port())
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("s%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port, PoolSize: -1},
			Routes:  routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		all = append(all, s)
	}
	for _, s := range all {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("the server does not start")
		}
	}
	eventually(t, "the cluster has a leader", func() bool {
		peers := 0
		for _, s := range all {
			if s.JetStreamIsLeader() {
				peers = len(s.JetStreamClusterPeers())
			}
		}
		return peers == 3
	})
	return all
}

// TestThreeServers runs everything on replicated streams, and stops the server
// that leads the log in the middle. Replicated streams answer lost races with
// another error than single ones.
func TestThreeServers(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster takes some ten seconds to elect")
	}
	servers := startCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	var logs []*Log
	m := newTerms()
	var stops []func()
	for i := range 2 {
		l := openWith(t, Config{URL: strings.Join(urls, ","), Replicas: 3})
		l.timing = timing{ttl: 20 * time.Second, renew: 200 * time.Millisecond, margin: 200 * time.Millisecond, poll: 100 * time.Millisecond}
		logs = append(logs, l)
		id := fmt.Sprintf("r%d", i)
		stops = append(stops, lead(t, l, id, project(t, l), m.term(id)))
	}
	p := project(t, logs[1])
	eventually(t, "one leads", func() bool { return m.leads("r0") || m.leads("r1") })

	regs := []*Registry{openRegistry(t, logs[0]), openRegistry(t, logs[1])}
	var g sync.WaitGroup
	for i, r := range regs {
		g.Go(func() {
			for n := range 5 {
				if _, created, err := r.Deploy(t.Context(), deploySpec("thumb", fmt.Sprintf("s%d:%d", i, n))); err != nil || !created {
					t.Errorf("deploy: created %v, %v", created, err)
				}
			}
		})
	}
	g.Wait()
	eventually(t, "all versions are seen", func() bool {
		return len(regs[0].Versions("thumb")) == 10 && len(regs[1].Versions("thumb")) == 10
	})

	info, err := logs[0].streamInfo(t.Context(), streamName)
	if err != nil || info.Config.Replicas != 3 {
		t.Fatalf("%d replicas, %v", info.Config.Replicas, err)
	}
	var ids []functions.TaskID
	for n := range 200 {
		if n == 100 {
			for _, s := range servers {
				if s.Name() == info.Cluster.Leader {
					s.Shutdown()
				}
			}
		}
		id := newID()
		if _, err := logs[n%2].Submit(t.Context(), submission(id)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	last, err := logs[1].LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitApplied(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if p.seen[id] != 1 {
			t.Errorf("task %s is in the log %d times", id, p.seen[id])
		}
	}
	eventually(t, "one leads", func() bool { return m.leads("r0") || m.leads("r1") })
	for i, id := range []string{"r0", "r1"} {
		if m.leads(id) {
			stops[i]()
			break
		}
	}
	eventually(t, "the other leads", func() bool { return m.leads("r0") || m.leads("r1") })
	if m.most != 1 {
		t.Errorf("%d terms ran at once", m.most)
	}
}
