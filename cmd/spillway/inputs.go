package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/functions/shares"
	"github.com/spillway/spillway/functions/webfetch"
	"github.com/spillway/spillway/runtime/node"
)

// InputsConfig is where tasks may have inputs from, beside the object store.
type InputsConfig struct {
	Shares   map[string]string `yaml:"shares" env:"SHARES" envKeyValSeparator:"="` // shared folders that are mounted here: absolute paths by name
	URLAllow []string          `yaml:"url_allow" env:"URL_ALLOW"`                  // CIDR prefixes and hosts that URLs may name although they are not public
	URLMax   string            `yaml:"url_max" env:"URL_MAX"`                      // largest file from a URL; empty = 10GiB
}

// openShares returns the shared folders of this machine. Containers run as the
// node's user, here or elsewhere: what that user may not read is not shared.
func openShares(cfg Config) (*shares.Folders, error) {
	uid, gid := node.ContainerUser()
	return shares.New(cfg.Inputs.Shares, shares.User{UID: uint32(uid), GID: uint32(gid)})
}

func openWeb(cfg Config) (*webfetch.Client, error) {
	most, err := parseSize(cfg.Inputs.URLMax)
	if err != nil {
		return nil, err
	}
	return webfetch.New(webfetch.Config{Allow: cfg.Inputs.URLAllow, MaxSize: most})
}

// folderFlag is --share NAME=/PATH, which may be given several times.
type folderFlag map[string]string

func (f *folderFlag) Type() string { return "NAME=/PATH" }

func (f *folderFlag) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(*f)) {
		list = append(list, name+"="+(*f)[name])
	}
	return strings.Join(list, ",")
}

// Set adds folders to those that are there.
func (f *folderFlag) Set(value string) error {
	for one := range strings.SplitSeq(value, ",") {
		name, path, ok := strings.Cut(one, "=")
		if !ok {
			return functions.Invalid("bad_flag", "%q is not NAME=/PATH", one)
		}
		if *f == nil {
			*f = folderFlag{}
		}
		(*f)[name] = path
	}
	return nil
}

// listFlag is a flag that may be given several times.
type listFlag []string

func (l *listFlag) Type() string   { return "list" }
func (l *listFlag) String() string { return strings.Join(*l, ",") }

// Set adds to what is there.
func (l *listFlag) Set(value string) error {
	*l = append(*l, strings.Split(value, ",")...)
	return nil
}
