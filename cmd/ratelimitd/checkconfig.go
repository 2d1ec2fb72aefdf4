package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ratelimitd/ratelimitd/internal/app"
	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

func newCheckConfig(lookup lookupEnv) *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a policy and show what it says",
		Long: "Check a policy, by its path or as production, development or testing, as serve would read it: limits\n" +
			"that the environment sets are put in. Problems have their file and line and make the exit status 1.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opt, err := app.ReadLimits(lookup)
			if err != nil {
				return fmt.Errorf("settings:\n%w", err)
			}
			return checkConfig(cmd.OutOrStdout(), args[0], opt)
		},
	}
}

// errRefused says that a policy has problems, which were printed.
var errRefused = errors.New("the policy is refused")

func checkConfig(out io.Writer, file string, adjust policy.Adjustments) error {
	snapshot, warnings, err := policy.Load(file, adjust)
	var refused *policy.Error
	switch {
	case errors.As(err, &refused):
		for _, p := range refused.Problems {
			if _, err := fmt.Fprintln(out, p.String()); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return fmt.Errorf("%w: %d problem(s)", errRefused, len(refused.Problems))
	case err != nil:
		return fmt.Errorf("check %s: %w", file, err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, warning := range warnings {
		_, _ = fmt.Fprintf(w, "warning: %s\n", warning) // Flush tells what went wrong
	}
	_, _ = fmt.Fprintf(w, "%s: ok, domain %s, hash %.12s\n", file, snapshot.Domain(), snapshot.Hash())
	printLimits(w, snapshot)
	printCost(w, snapshot)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printLimits shows the limits by tier and plan, in the order of the policy.
func printLimits(w io.Writer, snapshot *policy.Snapshot) {
	tiers := snapshot.Tiers()
	limits := slices.Clone(snapshot.Limits())
	slices.SortStableFunc(limits, func(a, b policy.TierLimit) int {
		return slices.Index(tiers, a.Tier) - slices.Index(tiers, b.Tier)
	})
	held := false
	_, _ = fmt.Fprintln(w, "TIER\tPLAN\tLIMIT\tNAME\tENFORCED\tWITHOUT THE STORE")
	for i := range limits {
		l := &limits[i]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n",
			l.Tier, l.Plan, l.String(), l.Name, enforced(&l.Limit), snapshot.OnStoreFailure(l.Tier))
		held = held || l.Unit != store.Requests
	}
	if held {
		_, _ = fmt.Fprintln(w, "Limits of tokens, USD and slots count the calls that hold: those of CostService, and rate limit calls "+
			"with a request_id.")
	}
}

// printCost shows what the policy says about money.
func printCost(w io.Writer, snapshot *policy.Snapshot) {
	cost := snapshot.Cost()
	hold := "nothing, unless the call names its tokens"
	switch {
	case cost.Hold.USD > 0:
		hold = budget.FormatMoney(cost.Hold.USD) + " USD"
	case cost.Hold.Model != "":
		hold = fmt.Sprintf("%d input and %d output tokens of %s", cost.Hold.InputTokens, cost.Hold.MaxOutputTokens, cost.Hold.Model)
	}
	_, _ = fmt.Fprintf(w, "Prices: %d model(s); on_unknown_price is %s. A rate limit call with a request_id holds %s, for %s.\n",
		len(snapshot.Prices().Models()), cost.OnUnknownPrice, hold, cost.Lease)
}

// enforced says which calls a limit can deny.
func enforced(l *policy.Limit) string {
	switch {
	case l.Shadow:
		return "no (shadow)"
	case l.Unit == store.Requests:
		return "every call"
	default:
		return "calls that hold"
	}
}
