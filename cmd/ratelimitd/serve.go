package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/app"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

func newServe(lookup lookupEnv) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve rate limits until a signal ends it",
		Long: "Serve rate limits. SIGHUP reads the policy again, as does a change of its file. SIGTERM and SIGINT let\n" +
			"calls in flight end, within the shutdown timeout; a second one cuts them off.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, lookup) },
	}
	app.AddFlags(cmd.Flags())
	return cmd
}

func serve(cmd *cobra.Command, lookup lookupEnv) error {
	opt, err := app.ReadSettings(cmd.Flags(), lookup)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	log, err := telemetry.Open(cmd.ErrOrStderr(), opt.LogLevel, opt.LogFormat)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	signals := make(chan os.Signal, 4) //nolint:mnd // a reload and two that stop are enough to wait
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // who reads the logs may go: calls are answered all the same
	defer signal.Stop(signals)
	if err := app.Run(cmd.Context(), opt, log, signals); err != nil {
		log.Error("ended", zap.Error(err))
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
