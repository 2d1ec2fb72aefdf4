package policy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long after the first sign of a change the file is read: an editor or a ConfigMap makes several
	// changes in a row.
	settle = 50 * time.Millisecond
	// lookAnyway is how often the file is read without a sign: some file systems give none, a link may lead to another
	// directory, and a directory that was deleted gives no sign of its return.
	lookAnyway = 10 * time.Second
)

// Watch reloads the policy whenever its file changes, until ctx ends; then it returns nil. It watches the file's
// directory, so it also sees a file that is replaced by renaming, one that comes back, and the switch of a Kubernetes
// ConfigMap's ..data link. A built-in policy cannot change: Watch returns at once. It errs when no watch can be set.
func (s *Source) Watch(ctx context.Context) error {
	if isBuiltin(s.name) {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the policy %s: %w; check fs.inotify.max_user_instances", s.name, err)
	}
	directory := filepath.Dir(s.name)
	if err := watcher.Add(directory); err != nil {
		return errors.Join(fmt.Errorf("watch the policy's directory %s: %w", directory, err), watcher.Close())
	}
	// What changed between the first load and the watch would give no sign.
	s.reloadIfChanged()
	err = s.follow(ctx, watcher, directory)
	if closeErr := watcher.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("end the watch of %s: %w", directory, closeErr)
	}
	return err
}

// follow reloads on signs of change until ctx ends.
func (s *Source) follow(ctx context.Context, watcher *fsnotify.Watcher, directory string) error {
	ticker := time.NewTicker(lookAnyway)
	defer ticker.Stop()
	var settled <-chan time.Time // nil while there is no sign of a change
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-watcher.Events:
			if !open {
				return fmt.Errorf("watch the policy's directory %s: %w", directory, fsnotify.ErrClosed)
			}
			// The wait is not prolonged by further signs: a busy directory must not hold a change back.
			if settled == nil {
				settled = time.After(settle)
			}
		case err := <-watcher.Errors:
			if err != nil { // an overflow: signs are lost
				s.reloadIfChanged()
			}
		case <-settled:
			settled = nil
			s.reloadIfChanged()
		case <-ticker.C:
			// A directory that was replaced needs a new watch; one that is watched already is left alone. Where that
			// fails, the directory is away, and reading the file says so.
			_ = watcher.Add(directory)
			s.reloadIfChanged()
		}
	}
}
