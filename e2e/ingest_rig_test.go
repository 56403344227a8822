package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/spillway/spillway/e2e/harness"
	"github.com/spillway/spillway/functions/objects/miniotest"
)

// Buckets of a rig, and the functions that watch them.
const (
	inbox = "inbox" // plain
	vault = "vault" // keeps versions

	fromInbox  = "from-inbox"
	fromVault  = "from-vault"
	onUploaded = "on-uploaded" // runs on presigned uploads
)

const rigReconcile = time.Second

// target is a webhook of the store.
type target struct {
	name, path string
	queued     bool // survives an absent receiver on the store's disk
}

// targets is what the rigs' MinIO reports to.
var targets = []target{{"FAST", "/internal/s3-events/fast", false}, {"DURABLE", "/internal/s3-events/durable", true}}

const hookToken = "spillway-e2e-token"

// rig is a store and a server that watches two of its buckets.
type rig struct {
	srv   *harness.Server
	s3    *minio.Client // as a program outside has it
	store *harness.MinIO
	hooks *hookProxy // nil where the store reports without one
	net   *harness.Network
}

// rigOptions change a rig.
type rigOptions struct {
	minio bool
	cable bool   // every party in a network namespace of its own; MinIO only
	seed  uint64 // of the proxy's dice
	args  []string
}

// newRig starts a rig for a test. Its buckets and functions are there.
func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{}
	ports, err := harness.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	cfg := harness.Config{Data: filepath.Join(t.TempDir(), "data"), Ports: ports, Args: append([]string{
		"--runtime", "simulated", "--cpus", "8", "--reconcile", rigReconcile.String(), "--disk-floor", "64MiB",
	}, o.args...)}
	if o.cable {
		r.net = newNetwork(t, "minio", "server", "clients")
		cfg.Ports = &harness.Ports{Gateway: "0.0.0.0:8080", Store: "127.0.0.1:8081"}
		cfg.In, cfg.From = r.net.In("server"), r.net.In("clients")
		cfg.Args = append(cfg.Args, "--no-auth=false", "--public-url", "http://"+r.net.Addr("server", "clients")+":8080")
	}
	if o.minio {
		addr := r.startMinIO(t, o, cfg.Ports)
		cfg.Args = append(cfg.Args, "--store-endpoint", "http://"+addr, "--store-access-key", harness.MinIOKey)
		for _, to := range targets {
			cfg.Args = append(cfg.Args, "--store-webhook-arn", harness.WebhookARN(to.name))
		}
		if o.cable {
			cfg.Args = append(cfg.Args, "--store-public", r.store.Endpoint())
		}
		cfg.Env = []string{"SPILLWAY_STORE_SECRET_KEY=" + harness.MinIOSecret, "SPILLWAY_STORE_WEBHOOK_TOKEN=" + hookToken}
	}
	r.srv = serverWith(t, cfg)
	key, secret := r.srv.S3Key, r.srv.S3Pass
	if o.minio {
		key, secret = harness.MinIOKey, harness.MinIOSecret
	}
	if r.s3, err = harness.S3(strings.TrimPrefix(r.srv.Store, "http://"), key, secret, cfg.From); err != nil {
		t.Fatal(err)
	}
	if err := r.s3.MakeBucket(t.Context(), vault, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.s3.EnableVersioning(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	deploySpec(t, r.srv, watcher(fromInbox, inbox))
	deploySpec(t, r.srv, watcher(fromVault, vault))
	deploySpec(t, r.srv, watcher(onUploaded, ""))
	return r
}

// watcher is a function that takes next to no room and watches a bucket.
func watcher(name, bucket string, more ...string) string {
	spec := "name: " + name + "\nimage: simulated\ndevice: never\nlimits: {cpus: 0.01, memory: 6MiB}\n" + strings.Join(more, "\n") + "\n"
	if bucket != "" {
		spec += "triggers: [{bucket: " + bucket + "}]\n"
	}
	return spec
}

// startMinIO starts the store and returns its address for the server.
func (r *rig) startMinIO(t *testing.T, o rigOptions, ports *harness.Ports) string {
	t.Helper()
	cfg := harness.MinIOConfig{Bin: miniotest.Binary(t), Dir: filepath.Join(t.TempDir(), "minio"), Listen: miniotest.FreeAddr(t), Log: &logBuffer{}}
	addr, hooks := cfg.Listen, ""
	if o.cable {
		cfg.Listen = "0.0.0.0:9000"
		cfg.Dial, addr = r.net.Addr("minio", "clients")+":9000", r.net.Addr("minio", "server")+":9000"
		cfg.In, cfg.From = r.net.In("minio"), r.net.In("clients")
		hooks = r.net.Addr("server", "minio") + ":8080"
	} else {
		r.hooks = startHookProxy(t, ports.Gateway, o.seed)
		hooks = r.hooks.addr
	}
	queue := t.TempDir()
	for _, to := range targets {
		dir := ""
		if to.queued {
			dir = queue
		}
		cfg.Env = append(cfg.Env, harness.Webhook(to.name, "http://"+hooks+to.path, hookToken, dir)...)
	}
	var err error
	if r.store, err = harness.StartMinIO(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Kill() })
	return addr
}

// newNetwork makes network namespaces until the test ends. Where it cannot, the
// test is skipped, or fails when SPILLWAY_REQUIRE_NETNS=1.
func newNetwork(t *testing.T, names ...string) *harness.Network {
	t.Helper()
	var why string
	if os.Getuid() != 0 {
		why = "network namespaces need root"
	} else if _, err := exec.LookPath("ip"); err != nil {
		why = "network namespaces need the ip command (iproute2)"
	} else {
		n, err := harness.NewNetwork(names...)
		if err == nil {
			t.Cleanup(func() {
				if err := n.Close(); err != nil {
					t.Errorf("take the network away: %v", err)
				}
			})
			return n
		}
		why = "network namespaces cannot be made here: " + err.Error()
	}
	if os.Getenv("SPILLWAY_REQUIRE_NETNS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return nil
}

// TestNetworkIsCutAndMended shows that a cut link of the rigs' network is one.
func TestNetworkIsCutAndMended(t *testing.T) {
	n := newNetwork(t, "a", "b")
	reaches := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		conn, err := n.In("a").Dial(ctx, "tcp", net.JoinHostPort(n.Addr("b", "a"), "9"))
		if err == nil {
			conn.Close()
		}
		// Nobody listens there: an answer is a refusal.
		return err != nil && strings.Contains(err.Error(), "refused")
	}
	eventually(t, time.Minute, "the link comes up", reaches)
	if err := n.Cut("a", "b"); err != nil {
		t.Fatal(err)
	}
	if reaches() {
		t.Error("the link is cut, and b answers")
	}
	if err := n.Mend("a", "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the mended link works", reaches)
	if conn, err := n.In("a").Dial(t.Context(), "tcp", "192.0.2.1:80"); err == nil {
		conn.Close()
		t.Error("something outside was reached")
	}
}
