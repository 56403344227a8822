package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// role is a long-running command: it loads the configuration and runs part of
// the program until it is told to stop.
func role(use, short string, getenv func(string) string, run func(cmd *cobra.Command, cfg Config) error) *cobra.Command {
	cfg := Default()
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ := map[string]string{}
			for _, kv := range os.Environ() {
				k, _, _ := strings.Cut(kv, "=")
				environ[k] = getenv(k)
			}
			if err := cfg.load(cmd.Flags(), environ); err != nil {
				return err
			}
			if cfg.Node.DockerHost == "" {
				cfg.Node.DockerHost = environ["DOCKER_HOST"]
			}
			return run(cmd, cfg)
		},
	}
	cfg.bind(cmd.Flags())
	return cmd
}

func upCommand(getenv func(string) string) *cobra.Command {
	return role("up", "Run everything on this machine: server, store, engine and a node", getenv, func(cmd *cobra.Command, cfg Config) error {
		return runServer(cmd.Context(), cfg, true, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
}

func serverCommand(getenv func(string) string) *cobra.Command {
	return role("server", "Run the server alone; nodes connect to --engine-listen", getenv, func(cmd *cobra.Command, cfg Config) error {
		return runServer(cmd.Context(), cfg, false, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
}

func nodeCommand(getenv func(string) string) *cobra.Command {
	return role("node", "Run this machine as a node of a server", getenv, func(cmd *cobra.Command, cfg Config) error {
		if cfg.Engine.URL == "" || cfg.Store.Endpoint == "" {
			return fmt.Errorf("a node needs --engine-url and --store-endpoint: the server's --engine-listen address and the store that it uses")
		}
		return runNode(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
}
