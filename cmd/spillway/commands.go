package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/functions"
)

// groupRun is the heading of the long-running commands.
const groupRun = "run"

// role is a long-running command: it loads the configuration and runs part of
// the program until it is told to stop.
func role(use, short, example string, getenv func(string) string, run func(cmd *cobra.Command, cfg Config) error) *cobra.Command {
	cfg := Default()
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, GroupID: groupRun, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.read(cmd.Flags(), getenv); err != nil {
				return err
			}
			return run(cmd, cfg)
		},
	}
	cfg.bind(cmd.Flags())
	return cmd
}

// read fills c as a command does, from all of its sources.
func (c *Config) read(f *pflag.FlagSet, getenv func(string) string) error {
	environ := map[string]string{}
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		environ[k] = getenv(k)
	}
	if err := c.load(f, environ); err != nil {
		return err
	}
	if c.Node.DockerHost == "" {
		c.Node.DockerHost = environ["DOCKER_HOST"]
	}
	return nil
}

func upCommand(getenv func(string) string) *cobra.Command {
	return role("up", "Run everything on this machine: server, store, engine and a node",
		"  spillway up --no-auth\n  spillway up --config spillway.yaml --assume-gpu 1", getenv, func(cmd *cobra.Command, cfg Config) error {
			return runServer(cmd.Context(), cfg, true, cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
}

func serverCommand(getenv func(string) string) *cobra.Command {
	return role("server", "Run the server alone; nodes connect to --engine-listen",
		"  spillway server --listen 0.0.0.0:8080 --engine-listen 0.0.0.0:4222", getenv, func(cmd *cobra.Command, cfg Config) error {
			return runServer(cmd.Context(), cfg, false, cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
}

func nodeCommand(getenv func(string) string) *cobra.Command {
	return role("node", "Run this machine as a node of a server",
		"  SPILLWAY_ENGINE_TOKEN=... SPILLWAY_STORE_SECRET_KEY=... spillway node --engine-url nats://server:4222 \\\n"+
			"    --store-endpoint http://server:8081 --store-access-key spillway", getenv, func(cmd *cobra.Command, cfg Config) error {
			if cfg.Engine.URL == "" || cfg.Store.Endpoint == "" {
				return functions.Invalid("bad_config", "a node needs --engine-url and --store-endpoint").
					WithHint("they are the server's --engine-listen address and the store that it uses")
			}
			return runNode(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
}
