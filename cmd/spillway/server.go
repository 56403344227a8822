package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
	_ "time/tzdata" // schedules name time zones, wherever this runs

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/objects"
	"github.com/spillway/spillway/functions/spec"
	"github.com/spillway/spillway/functions/taskdb"
	"github.com/spillway/spillway/functions/tasklog"
	"github.com/spillway/spillway/gateway"
	"github.com/spillway/spillway/gateway/chain"
	"github.com/spillway/spillway/gateway/dashboard"
	"github.com/spillway/spillway/gateway/ingest"
	"github.com/spillway/spillway/gateway/ingest/sqs"
	"github.com/spillway/spillway/gateway/intake"
	"github.com/spillway/spillway/gateway/retention"
	"github.com/spillway/spillway/gateway/schedules"
	"github.com/spillway/spillway/gateway/seed"
	"github.com/spillway/spillway/gateway/webhooks"
	"github.com/spillway/spillway/runtime/node"
	"github.com/spillway/spillway/scheduler"
)

// server is everything that a server process holds, built in the order of the
// drawing and run together.
type server struct {
	cfg     Config
	secrets secrets
	log     *slog.Logger

	engine    *tasklog.Log      // the truth, 1
	tasks     *taskdb.DB        // its projection, 1
	functions *tasklog.Registry // deployed functions, 1
	store     *objects.Store    // client of the object store, 1
	scheduler *scheduler.Scheduler
	ingest    *ingest.Ingest
	queues    []*sqs.Queue // of object events, as many as configured
	deployer  *deployer
	retention *retention.Retention // sweeps while this server leads
	gateway   *gateway.Gateway
	webhooks  *webhooks.Webhooks   // tells of ends while this server leads
	chain     *chain.Chain         // hands on their records, likewise
	schedules *schedules.Schedules // starts tasks, likewise
	node      *node.Node           // nil on a server without a node
	release   func()               // lets go of the node's driver; nil on a server without a node
}

// runServer builds and runs a server until ctx ends:
//
//	HTTP --> gateway --> door --> log --> projection --> scheduler --> node --> containers
//	            ^         ^        ^          |   (leads: 1)            |
//	            +-- feed -|--------|----------+                         |
//	store events --> ingest <------+------------- end of attempts ------+
func runServer(ctx context.Context, cfg Config, withNode bool, out, errOut io.Writer) error {
	log, err := newLogger(errOut, cfg.LogLevel)
	if err != nil {
		return err
	}
	release, err := openData(cfg.Data)
	if err != nil {
		return err
	}
	defer release()
	s := &server{cfg: cfg, log: log}
	if s.secrets, err = loadSecrets(cfg.Data); err != nil {
		return err
	}
	if err := measureSync(cfg.Data, log); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("open the gateway's port: %w", err)
	}
	defer ln.Close()
	var closeEngine func()
	if s.engine, closeEngine, err = openEngine(ctx, cfg, s.secrets, log); err != nil {
		return err
	}
	defer closeEngine()
	if s.tasks, err = taskdb.Open(ctx, taskdb.Config{Path: filepath.Join(cfg.Data, "tasks.db"), Log: log}); err != nil {
		return err
	}
	defer s.tasks.Close()
	if err := s.build(ctx, withNode); err != nil {
		return err
	}
	if s.release != nil {
		defer s.release()
	}
	return s.run(ctx, ln, out)
}

// build makes the parts; nothing runs yet.
func (s *server) build(ctx context.Context, withNode bool) (err error) {
	at := addressOf(s.cfg.Store, s.secrets)
	if s.store, err = openStore(at, s.cfg.Store.Region); err != nil {
		return err
	}
	if s.functions, err = s.engine.Registry(ctx); err != nil {
		return fmt.Errorf("open the functions: %w", err)
	}
	if s.scheduler, err = scheduler.New(scheduler.Config{
		Log: s.engine, Nodes: s.engine, Tasks: s.tasks, Functions: s.functions, History: history{s.tasks}, Logger: s.log,
	}); err != nil {
		return err
	}
	folders, err := openShares(s.cfg)
	if err != nil {
		return err
	}
	web, err := openWeb(s.cfg)
	if err != nil {
		return err
	}
	door := intake.New(intake.Config{
		Log: s.engine, Functions: s.functions, Tasks: s.tasks, Queue: s.scheduler, Objects: s.store, Shares: folders, Web: web,
	})
	if err := s.buildIngest(ctx, door); err != nil {
		return err
	}
	keep := s.cfg.Retention
	if s.retention, err = retention.New(retention.Config{
		Tasks: s.tasks, Log: s.engine, Objects: s.store, Every: keep.Every, Logger: s.log,
		Keep: retention.Limits{Inputs: keep.Uploads, Outputs: keep.Results, Logs: keep.Logs, Grace: keep.Grace},
	}); err != nil {
		return err
	}
	read := reader{s.tasks, s.engine}
	old := seed.New(seed.Config{
		Door: door, Functions: s.functions, Tasks: read, Progress: reports{s}, Nodes: s.scheduler, Control: s.engine, Log: s.log,
	})
	page, err := dashboard.New(dashboard.Config{Store: cmp.Or(at.public, at.endpoint)})
	if err != nil {
		return err
	}
	deliveries, err := s.buildWebhooks(ctx, web)
	if err != nil {
		return err
	}
	if err := s.buildChain(ctx, door); err != nil {
		return err
	}
	s.schedules = schedules.New(schedules.Config{Functions: s.functions, Door: door, Logger: s.log})
	if s.gateway, err = gateway.New(gateway.Config{
		Door: door, Appender: s.engine, Tasks: read, Objects: s.store, Scheduler: s.scheduler, NodeLogs: s.engine,
		Functions: s.deployer, Ingest: s.ingest, Deliveries: deliveries, Parse: spec.Parse,
		Keys: [][32]byte{gateway.HashKey(s.secrets.APIKey)}, Open: s.cfg.NoAuth,
		Ready:      map[string]func(context.Context) error{"engine": s.engineReady, "store": s.store.Ready, "scheduler": s.nodeReady},
		Mounts:     []gateway.Mount{old.Routes},
		OpenMounts: []gateway.Mount{s.hooks(), page.Routes, s.buildLambda(door, read).Routes},
		Collectors: slices.Concat(s.retention.Collectors(), s.webhooks.Collectors(), s.chain.Collectors(), []prometheus.Collector{s.ingest}),
		Sweep:      min(s.cfg.Reconcile, 30*time.Second),
		Version:    version, Log: s.log, Nodes: s.engine,
	}); err != nil {
		return err
	}
	if withNode {
		s.node, s.release, err = newNode(ctx, s.cfg, s.engine, s.store, s.functions, localStore(s.cfg), s.log)
	}
	return err
}

// run runs every loop of the process until ctx ends or one fails. The store
// outlives the others: what they finish, they put there.
func (s *server) run(ctx context.Context, ln net.Listener, out io.Writer) error {
	told := ctx // ends when the process is told to stop
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	var below errgroup.Group
	work, ctx := errgroup.WithContext(ctx)
	if s.cfg.Store.Endpoint == "" {
		up := make(chan struct{})
		failed := make(chan error, 1)
		below.Go(func() error {
			err := runEmbeddedStore(base, s.cfg, s.secrets, s.ingest.Created, up, s.log)
			failed <- err
			return err
		})
		select {
		case <-up:
		case err := <-failed:
			return err
		}
		work.Go(func() error { // a store that ends early ends the program
			select {
			case err := <-failed:
				return fmt.Errorf("the embedded store ended: %w", err)
			case <-ctx.Done():
				return nil
			}
		})
	}
	work.Go(func() error { return s.functions.Run(ctx) })
	work.Go(func() error {
		return project(ctx, s.engine, s.tasks, s.publishers()...)
	})
	work.Go(func() error { return s.engine.ServeHeartbeats(ctx, s.heard) })
	work.Go(func() error { return s.engine.SubscribeProgress(ctx, s.gateway.Feed.Progress) })
	work.Go(func() error { return s.engine.Lead(ctx, s.cfg.Node.ID, s.tasks, s.lead) })
	if s.node != nil {
		work.Go(func() error { return s.node.Run(ctx) })
		work.Go(func() error { return s.engine.ServeNode(ctx, functions.NodeID(s.cfg.Node.ID), s.node) })
	}
	work.Go(func() error {
		if err := prepareStore(ctx, s.store, s.log); err != nil {
			return err
		}
		select {
		case <-s.functions.Ready():
		case <-ctx.Done():
			return nil
		}
		if err := s.caughtUp(ctx); err != nil {
			return err
		}
		s.awaitNode(ctx)
		if err := s.announce(ln, out); err != nil {
			return err
		}
		for _, run := range s.ingestLoops() {
			work.Go(func() error { return run(ctx) })
		}
		work.Go(func() error { return s.gateway.Run(ctx) })
		return serve(ctx, ln, s.gateway, 10*time.Second, s.log)
	})
	err := work.Wait()
	stopBase()
	if berr := below.Wait(); err == nil {
		err = berr
	}
	if told.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(told))) {
		return nil // stopping is what was asked for
	}
	return err
}

// heard takes a node's report. The lease is the scheduler's to grant.
func (s *server) heard(hb functions.Heartbeat) bool {
	s.gateway.SawNode(hb.Node)
	return s.scheduler.Heartbeat(hb)
}

// lead does what one server does for all, for as long as it leads.
func (s *server) lead(ctx context.Context, epoch uint64) error {
	work, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	work.Go(func() error {
		defer end()
		return s.scheduler.Lead(ctx, epoch)
	})
	work.Go(func() error { return s.retention.Run(ctx) })
	work.Go(func() error { return s.webhooks.Run(ctx) })
	work.Go(func() error { return s.chain.Run(ctx) })
	work.Go(func() error {
		select {
		case <-s.functions.Ready():
			return s.schedules.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	return work.Wait()
}

// caughtUp waits until the projection shows all that was in the log at the
// start, so that the first answer already knows every accepted task.
func (s *server) caughtUp(ctx context.Context) error {
	last, err := s.engine.LastSeq(ctx)
	if err != nil {
		return fmt.Errorf("read the log's end: %w", err)
	}
	if err := s.tasks.WaitApplied(ctx, last); err != nil && ctx.Err() == nil {
		return fmt.Errorf("catch up with the log: %w", err)
	}
	return nil
}

// nodePatience is how long a start waits for its own node. Without an engine
// the node never becomes ready, and the server is of use all the same.
const nodePatience = 3 * time.Second

// awaitNode waits for the process's own node, so that "ready" means that a task
// can run.
func (s *server) awaitNode(ctx context.Context) {
	if s.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.nodeReady(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.log.Warn("this machine's node is not ready yet; spillway nodes says why")
			return
		}
	}
}

func (s *server) engineReady(ctx context.Context) error {
	_, err := s.engine.LastSeq(ctx)
	return err
}

// nodeReady fails while no node could take a task.
func (s *server) nodeReady(context.Context) error {
	for _, n := range s.scheduler.Nodes() {
		if n.Alive && n.Ready {
			return nil
		}
	}
	return functions.Unavailable("no_node", "no node is alive and ready")
}

// reports lets the older API, which is built before the gateway that mounts it,
// read the gateway's live reports.
type reports struct{ s *server }

// Progress returns the newest report on a task.
func (r reports) Progress(id functions.TaskID) (functions.Progress, bool) {
	return r.s.gateway.Feed.Newest(id)
}

// urls is what the process says of itself when it is ready.
type urls struct {
	Gateway     string `json:"gateway"`
	Store       string `json:"store"`
	APIKey      string `json:"api_key_file"`
	StoreAccess string `json:"store_access_key"`
	StoreSecret string `json:"store_secret_key"`
}

// announce prints where everything is, and writes it for programs.
func (s *server) announce(ln net.Listener, out io.Writer) error {
	at := addressOf(s.cfg.Store, s.secrets)
	u := urls{Gateway: "http://" + ln.Addr().String(), Store: at.endpoint, StoreAccess: at.access, StoreSecret: at.secret}
	if s.cfg.PublicURL != "" {
		u.Gateway = s.cfg.PublicURL
	}
	if at.public != "" {
		u.Store = at.public
	}
	if !s.cfg.NoAuth {
		u.APIKey = filepath.Join(s.cfg.Data, "api-key")
	}
	readyLine(out, u)
	if s.cfg.ReadyFile == "" {
		return nil
	}
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	tmp := s.cfg.ReadyFile + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write the ready file: %w", err)
	}
	return os.Rename(tmp, s.cfg.ReadyFile)
}
