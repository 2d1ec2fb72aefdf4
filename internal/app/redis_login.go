package app

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxRedisDB is the largest number of a database that is taken.
const maxRedisDB = 1 << 20

// finishLogin puts together user, password and database.
func (r *reading) finishLogin() error {
	t, to := &r.redis, &r.opt.Redis
	to.Username, to.Password = t.username, t.password
	if t.db != nil {
		to.DB = *t.db
	}
	if t.url == nil {
		return nil
	}
	if user := t.url.User; user != nil {
		if name := user.Username(); name != "" {
			if t.username != "" && t.username != name {
				return errors.New("REDIS_URL and REDIS_USERNAME name different users: unset one")
			}
			to.Username = name
		}
		if password, ok := user.Password(); ok && password != "" {
			if t.password != "" && t.password != password {
				return errors.New("REDIS_URL and REDIS_PASSWORD hold different passwords: unset one")
			}
			to.Password = password
		}
	}
	return r.finishDB()
}

// finishDB reads the database of the URL, redis://host/1 or unix:///path?db=1.
func (r *reading) finishDB() error {
	t := &r.redis
	text := t.url.Query().Get("db")
	if t.url.Scheme != networkUnix {
		if path := strings.Trim(t.url.Path, "/"); path != "" {
			text = path
		}
	}
	if text == "" {
		return nil
	}
	db, err := strconv.Atoi(text)
	if err != nil || db < 0 || db > maxRedisDB {
		return fmt.Errorf("REDIS_URL has the database %q: write a number, as redis://host:6379/0", text)
	}
	if t.db != nil && *t.db != db {
		return fmt.Errorf("REDIS_URL and REDIS_DB name different databases, %d and %d: unset one", db, *t.db)
	}
	r.opt.Redis.DB = db
	return nil
}
