package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// maxHashKeyFile bounds the file of the key of hashed ids, bytes.
const maxHashKeyFile = 64 << 10

// logSettings are those of what is logged.
func logSettings() []Setting {
	return []Setting{
		{
			Flag: "log-level", Env: "RATELIMITD_LOG_LEVEL", Default: DefaultLogLevel,
			Values: "debug, info, warn or error", Help: "What is logged.",
			read: func(r *reading, v string) error {
				return readWord(v, &r.opt.LogLevel, "debug", "info", "warn", "error")
			},
		},
		{
			Flag: "log-format", Env: "RATELIMITD_LOG_FORMAT", Default: DefaultLogFormat,
			Values: "json or console", Help: "How it is logged.",
			read: func(r *reading, v string) error { return readWord(v, &r.opt.LogFormat, "json", "console") },
		},
		{
			Flag: "decision-log", Env: "RATELIMITD_DECISION_LOG", Default: telemetry.DecisionsOff,
			Values: "off, denied or all", Help: "Of which decisions a line is written to standard output.",
			read: func(r *reading, v string) error {
				return readWord(v, &r.opt.DecisionLog, telemetry.DecisionsOff, telemetry.DecisionsDenied, telemetry.DecisionsAll)
			},
		},
		{
			Flag: "decision-log-ids", Env: "RATELIMITD_DECISION_LOG_IDS", Default: telemetry.IDsPlain,
			Values: "plain, hashed or none", Help: "How the decision log shows whose decision it was.",
			read: func(r *reading, v string) error {
				return readWord(v, &r.opt.DecisionLogIDs, telemetry.IDsPlain, telemetry.IDsHashed, telemetry.IDsNone)
			},
		},
		{
			Env: "RATELIMITD_LOG_HASH_KEY", Values: "at least 16 bytes", Secret: true,
			Help: "The key of hashed ids; without one each process has its own.",
			read: func(r *reading, v string) error { return r.readHashKey([]byte(v)) },
		},
		{
			Env: "RATELIMITD_LOG_HASH_KEY_FILE", Values: "a path", Help: "A file with the key of hashed ids.",
			read: func(r *reading, v string) error { return r.readHashKeyFile(v) },
		},
	}
}

// errTwoHashKeys says that the key of hashed ids is told twice.
var errTwoHashKeys = errors.New("is set besides RATELIMITD_LOG_HASH_KEY: unset one")

// readHashKey takes the key of hashed ids.
func (r *reading) readHashKey(key []byte) error {
	if len(key) < telemetry.MinHashKey {
		return fmt.Errorf("is too short: write at least %d bytes, as `openssl rand -hex 16` makes them", telemetry.MinHashKey)
	}
	r.opt.DecisionLogKey = key
	return nil
}

// readHashKeyFile reads the key from a file, without the line ends behind it.
func (r *reading) readHashKeyFile(path string) error {
	if len(r.opt.DecisionLogKey) > 0 {
		return errTwoHashKeys
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxHashKeyFile {
		return fmt.Errorf("is no file of at most %d bytes", maxHashKeyFile)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	return r.readHashKey(bytes.TrimRight(key, "\r\n"))
}

func (o *Options) validateDecisionLog() error {
	switch o.DecisionLog {
	case "", telemetry.DecisionsOff:
		return nil
	case telemetry.DecisionsDenied, telemetry.DecisionsAll:
	default:
		return fmt.Errorf("--decision-log %q is not known: write off, denied or all", o.DecisionLog)
	}
	switch o.DecisionLogIDs {
	case telemetry.IDsPlain, telemetry.IDsHashed, telemetry.IDsNone:
		return nil
	default:
		return fmt.Errorf("--decision-log-ids %q is not known: write plain, hashed or none", o.DecisionLogIDs)
	}
}
