package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ratelimitd/ratelimitd/internal/app"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := app.Build()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "ratelimitd %s (revision %s, %s)\n", b.Version, b.Revision, b.Go)
			if err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}
