package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spillway/spillway/e2e/harness"
)

// postgres starts a PostgreSQL with a cluster of its own and its defaults, which
// sync every commit. It refuses to run as root, so its files belong to the user
// that Debian made for it, in a folder beside the others.
func postgres(ctx context.Context) (url, version string, stop func() error, err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", "", nil, err
	}
	as, setpriv := []string{}, ""
	dir, err := os.MkdirTemp("", "bench-pg-")
	if err != nil {
		return "", "", nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	if os.Getuid() == 0 {
		if setpriv, err = program("setpriv"); err != nil {
			return "", "", nil, errors.Join(err, remove())
		}
		owner, err := user.Lookup("postgres")
		if err != nil {
			return "", "", nil, errors.Join(skip("PostgreSQL must not run as root, and there is no user postgres"), remove())
		}
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", "", nil, errors.Join(err, remove())
		}
		as = []string{setpriv, "--reuid", owner.Uid, "--regid", owner.Gid, "--clear-groups", "--pdeathsig", "KILL", "--"}
	}
	data := filepath.Join(dir, "data")
	initdb := append(slices.Clone(as), filepath.Join(bin, "initdb"), "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale", "C")
	make := exec.CommandContext(ctx, initdb[0], initdb[1:]...)
	make.Dir = "/" // this folder may be closed to its user
	if out, err := make.CombinedOutput(); err != nil {
		return "", "", nil, errors.Join(fmt.Errorf("make a PostgreSQL cluster: %w: %s", err, lastLine(out)), remove())
	}
	ports, err := harness.FreePorts()
	if err != nil {
		return "", "", nil, errors.Join(err, remove())
	}
	_, port, err := net.SplitHostPort(ports.Gateway)
	if err != nil {
		return "", "", nil, errors.Join(err, remove())
	}
	serve := append(slices.Clone(as), filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-p", port, "-c", "listen_addresses=127.0.0.1")
	cmd := exec.Command(serve[0], serve[1:]...)
	cmd.Dir = "/"
	daemon, err := harness.StartDaemon(cmd)
	if err != nil {
		return "", "", nil, errors.Join(err, remove())
	}
	stop = func() error { return errors.Join(daemon.Stop(30*time.Second), remove()) }
	ask := func() error {
		return exec.CommandContext(ctx, filepath.Join(bin, "pg_isready"), "-q", "-h", dir, "-p", port).Run()
	}
	if err := ready(ctx, daemon, ask, stop); err != nil {
		return "", "", nil, err
	}
	return fmt.Sprintf("postgres://bench@127.0.0.1:%s/postgres", port), "PostgreSQL " + filepath.Base(filepath.Dir(bin)), stop, nil
}

// postgresBin is the folder of the newest installed server.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", skip("PostgreSQL is not installed")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// river is River, which asks more often than it does if not told to.
func river(ctx context.Context, dir, module string) (*Peer, error) {
	url, version, stop, err := postgres(ctx)
	if err != nil {
		return nil, err
	}
	c, err := startModule(ctx, dir, module, "river", url)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &Peer{
		Version: "River 0.51.1, " + version, Note: "500 workers in one process, fetching at most every 5 ms",
		Do: c.do, Close: func() error { return errors.Join(c.close(), stop()) },
	}, nil
}
