package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/prices"
)

func newPrices() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prices",
		Short: "Work with price lists",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPricesImport())
	return cmd
}

func newPricesImport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Turn LiteLLM's price list into one of a policy",
		Long: "Read a model_prices_and_context_window.json of LiteLLM and write the prices as the policy's cost.prices_file\n" +
			"wants them. Each row that cannot be used is told on the standard error with the reason. The exit status is 1\n" +
			"if no row can be used.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importPrices(args[0], out, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write; by default the standard output")
	return cmd
}

// errNoPrices says that a list holds no price that can be used.
var errNoPrices = errors.New("no row can be used")

func importPrices(from, to string, stdout, stderr io.Writer) error {
	file, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("import prices: %w", err)
	}
	list, err := prices.Import(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("import prices from %s: %w", from, err)
	}
	if err := report(list, stderr); err != nil {
		return err
	}
	if len(list.Models) == 0 {
		return fmt.Errorf("import prices from %s: %w", from, errNoPrices)
	}
	text := list.YAML(filepath.Base(from), time.Now())
	if err := policy.CheckPrices(to, text); err != nil {
		return fmt.Errorf("import prices from %s: a policy would refuse them:\n%w", from, err)
	}
	if to == "" {
		_, err = stdout.Write(text)
	} else {
		err = replaceFile(to, text)
	}
	if err != nil {
		return fmt.Errorf("write the prices: %w", err)
	}
	return nil
}

// report tells what became of the rows.
func report(list *prices.List, to io.Writer) error {
	w := errWriter{to: to}
	partly := 0
	for _, m := range list.Models {
		if len(m.Unread) > 0 {
			partly++
		}
	}
	for _, rejected := range list.Rejected {
		w.say("rejected %s\n", rejected)
	}
	w.say("%d of %d rows can be used, %d are rejected\n", len(list.Models), list.Rows, len(list.Rejected))
	if partly > 0 {
		w.say("%d of those that can be used have further costs that are left out, as of images, searches or batches\n", partly)
	}
	if w.err != nil {
		return fmt.Errorf("print: %w", w.err)
	}
	return nil
}

// errWriter keeps the first error.
type errWriter struct {
	to  io.Writer
	err error
}

func (w *errWriter) say(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.to, format, args...)
	}
}

// replaceFile puts a text in the place of a file, whole or not at all: a daemon may be watching it.
func replaceFile(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".prices-*")
	if err != nil {
		return err //nolint:wrapcheck // it says what was being done, and to which file
	}
	const readable = 0o644
	_, err = file.Write(text)
	err = errors.Join(err, file.Chmod(readable), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
