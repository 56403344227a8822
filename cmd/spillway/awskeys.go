package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/cmd/spillway/cli"
	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/lambda/sigv4"
)

// newAWSKey makes an access key of the form that AWS's have: 20 and 40 characters.
func newAWSKey() (id, secret string) {
	return "SPILLWAY" + rand.Text()[:12], (rand.Text() + rand.Text())[:40]
}

var awsKeyForm = regexp.MustCompile(`^[A-Za-z0-9_]{16,128}$`)

// validAWSKey checks a key that the settings give instead of the one made here.
func validAWSKey(id, secret string) error {
	switch {
	case id == "" && secret == "":
		return nil
	case id == "" || secret == "":
		return errors.New("SPILLWAY_AWS_ACCESS_KEY_ID and SPILLWAY_AWS_SECRET_ACCESS_KEY go together: set both or none")
	case !awsKeyForm.MatchString(id):
		return fmt.Errorf("%q is not 16 to 128 letters, digits and underscores", id)
	case len(secret) < 16 || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("SPILLWAY_AWS_SECRET_ACCESS_KEY must be 16 or more visible characters of ASCII")
	}
	return nil
}

// awsKeyPair is the key in force: that of the settings, or the one made here.
func awsKeyPair(cfg Config, s secrets) (id, secret string) {
	if cfg.AWSAccessKey != "" {
		return cfg.AWSAccessKey, cfg.AWSSecret
	}
	return s.AWSAccessKey, s.AWSSecret
}

// awsKeys are the keys with which calls may be signed.
func awsKeys(cfg Config, s secrets) sigv4.Keys {
	id, secret := awsKeyPair(cfg, s)
	return func(accessKeyID string) (string, bool) {
		if id == "" || accessKeyID != id {
			return "", false
		}
		return secret, true
	}
}

// awsEnv lets the aws-env command find the key in the data folder, and where the
// server listens in its settings.
func awsEnv(getenv func(string) string) cli.AWSAccess {
	cfg := Default()
	return cli.AWSAccess{
		Bind: func(cmd *cobra.Command) {
			all := pflag.NewFlagSet("", pflag.ContinueOnError)
			cfg.bind(all)
			for _, name := range []string{"config", "data", "listen", "public-url"} {
				cmd.Flags().AddFlag(all.Lookup(name))
			}
		},
		Open: func(cmd *cobra.Command) (cli.AWSKey, error) {
			if err := cfg.read(cmd.Flags(), getenv); err != nil {
				return cli.AWSKey{}, err
			}
			var s secrets
			if cfg.AWSAccessKey == "" {
				var err error
				if s, err = readAWSKey(cfg.Data); err != nil {
					return cli.AWSKey{}, err
				}
			}
			id, secret := awsKeyPair(cfg, s)
			return cli.AWSKey{ID: id, Secret: secret, Gateway: cmp.Or(cfg.PublicURL, localURL(cfg.Listen))}, nil
		},
	}
}

// readAWSKey reads the key that a server has made; it makes none.
func readAWSKey(dir string) (secrets, error) {
	var s secrets
	path := filepath.Join(dir, "secrets.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, functions.NotFound("no_secrets", "%s does not exist", path).
			WithHint("name the server's data folder with --data; its first start makes the key").WithCause(err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return s, functions.NewError(functions.ErrForbidden, "no_secrets", "%s is its owner's alone", path).
			WithHint("run this as the user that runs the server").WithCause(err)
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	if s.AWSAccessKey == "" || s.AWSSecret == "" {
		return s, functions.NotFound("no_aws_key", "%s is of an older version and has no key for AWS's clients", path).
			WithHint("the server adds one when it starts")
	}
	return s, nil
}

// localURL is how clients on this machine reach an address that is listened on.
func localURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		listen = net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + listen
}
