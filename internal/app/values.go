package app

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// errNotBool says that a value is not a yes or a no.
var errNotBool = errors.New("is not a yes or a no: write true or false")

func readBool(text string, to *bool) error {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "on", "t", "y":
		*to = true
	case "false", "0", "no", "off", "f", "n":
		*to = false
	default:
		return errNotBool
	}
	return nil
}

func readWord(text string, to *string, words ...string) error {
	word := strings.ToLower(strings.TrimSpace(text))
	if !slices.Contains(words, word) {
		return fmt.Errorf("is not known: write one of %s", strings.Join(words, ", "))
	}
	*to = word
	return nil
}

func readDuration(text string, least, most time.Duration, to *time.Duration) error {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return errors.New("is not a duration: write a number with its unit, as 10ms or 2s")
	}
	if d < least || d > most {
		return fmt.Errorf("is out of bounds: write %s to %s", least, most)
	}
	*to = d
	return nil
}

// readInt reads a whole number between least and most.
func readInt(text string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("is not a whole number between %d and %d", least, most)
	}
	return n, nil
}

func readRequests(text string, to **int64) error {
	n, err := readInt(text, 0, store.MaxRequests)
	if err != nil {
		return err
	}
	*to = &n
	return nil
}

func readMoney(text string, to **int64) error {
	n, err := budget.ParseMoney(text)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if n > store.MaxAmount {
		return fmt.Errorf("is too much: the largest limit is %s USD", budget.FormatMoney(store.MaxAmount))
	}
	*to = &n
	return nil
}

// readBytes reads a number of bytes, "1048576", "512KiB", "256MiB", "2GiB", or in powers of ten, "256MB".
func readBytes(text string, to *int64) error {
	number, factor := strings.TrimSpace(text), int64(1)
	for _, u := range []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"Ki", 1 << 10},
		{"Mi", 1 << 20},
		{"Gi", 1 << 30},
		{"kB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"B", 1},
	} {
		if cut, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(cut), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return errors.New("is not a number of bytes: write one as 268435456 or 256MiB")
	}
	if n < 0 || n > math.MaxInt64/factor || n*factor < MinMemoryLimit || n*factor > MaxMemoryLimit {
		return errors.New("is out of bounds: write 1MiB to 1024GiB")
	}
	*to = n * factor
	return nil
}

// readable errs when a file cannot be read now: what is read later must not be found missing only then.
func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("cannot be closed: %w", err)
	}
	return nil
}
