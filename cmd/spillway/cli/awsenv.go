package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// AWSKey is what AWS's clients need to call the gateway.
type AWSKey struct {
	ID      string
	Secret  string
	Gateway string // its URL, unless the user names another
}

// AWSAccess is how the aws-env command gets the key.
type AWSAccess struct {
	Bind func(cmd *cobra.Command) // adds the flags that Open reads
	Open func(cmd *cobra.Command) (AWSKey, error)
}

// awsRegion is named because clients want one; the gateway takes any.
const awsRegion = "us-east-1"

func awsEnvCommand(app App, f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aws-env",
		Short: "Print the settings with which AWS's clients call functions here, for the shell",
		Long: "Print the settings with which the AWS command line and AWS's libraries call functions here, as lines for the\n" +
			"shell. It reads the key from the server's data folder, as the user that runs the server.",
		Example: "  eval \"$(spillway aws-env)\"\n  spillway aws-env --data /var/lib/spillway --server https://spillway.example.com -o json",
		GroupID: groupFunctions,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := app.AWS.Open(cmd)
			if err != nil {
				return err
			}
			at := *f
			at.server = cmp.Or(f.server, app.Getenv("SPILLWAY_URL"), key.Gateway)
			c, err := newClient(app, &at)
			if err != nil {
				return err
			}
			return printAWSEnv(app, f.output, c.base, key)
		},
	}
	app.AWS.Bind(cmd)
	return cmd
}

func printAWSEnv(app App, format, gateway string, key AWSKey) error {
	vars := [][2]string{
		{"AWS_ENDPOINT_URL_LAMBDA", gateway},
		{"AWS_ACCESS_KEY_ID", key.ID},
		{"AWS_SECRET_ACCESS_KEY", key.Secret},
		{"AWS_DEFAULT_REGION", awsRegion},
	}
	if quiet(format) {
		values := map[string]string{}
		var names []string
		for _, v := range vars {
			values[v[0]] = v[1]
			names = append(names, v[0])
		}
		raw, err := json.Marshal(values)
		if err != nil {
			return fmt.Errorf("encode the settings: %w", err)
		}
		return list{raw: raw, names: names}.print(app, format)
	}
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], shellQuote(v[1]))
	}
	b.WriteString("unset AWS_SESSION_TOKEN\n") // of another account, it would be sent along and refused
	fmt.Fprintf(&b, "# AWS command lines before 2.13 (and 1.29) do not read AWS_ENDPOINT_URL_LAMBDA: aws --endpoint-url %s lambda ...\n", shellQuote(gateway))
	_, err := fmt.Fprint(app.Out, b.String())
	return err
}

// shellQuote makes one word of s for any shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
