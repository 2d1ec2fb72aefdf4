package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ratelimitd/ratelimitd/internal/app"
)

// lookupEnv finds a variable of the environment.
type lookupEnv func(name string) (value string, ok bool)

func newRoot(lookup lookupEnv) *cobra.Command {
	root := &cobra.Command{
		Use:   "ratelimitd",
		Short: "Exact rate limits for an AI assistant, as a sidecar of Envoy",
		Long: "ratelimitd decides, before a request reaches an AI assistant, whether its user and the system as a\n" +
			"whole may still spend it. Envoy asks it over gRPC, by envoy.service.ratelimit.v3. Its state lives in\n" +
			"Redis, or by default in the process itself.",
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServe(lookup), newCheckConfig(lookup), newHealth(lookup), newPrices(), newVersion())
	root.SetUsageTemplate(root.UsageTemplate() + "\n" + environmentHelp())
	return root
}

// environmentHelp lists every setting by its variable.
func environmentHelp() string {
	var b strings.Builder
	b.WriteString("Environment (a flag wins over its variable, and a variable over the default):\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range app.Settings() {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", s.Env, describe(&s)) // a strings.Builder takes everything
	}
	_ = w.Flush()
	return b.String()
}

// describe says a setting in one line.
func describe(s *app.Setting) string {
	text := s.Summary()
	if s.Default != "" {
		text += "; default " + s.Default
	}
	if len(s.Aliases) > 0 {
		text += "; also " + strings.Join(s.Aliases, ", ")
	}
	if s.Flag != "" {
		text += " (--" + s.Flag + ")"
	}
	return text
}
