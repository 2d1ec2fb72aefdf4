package httpedge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// headerUser names the user where the query does not.
const headerUser = "x-user-id"

// statsAnswer is the usage of one user and of the system as a whole.
type statsAnswer struct {
	UserID string `json:"user_id"`
	tierAnswer

	Global tierAnswer `json:"global"`
}

// tierAnswer is the usage of one subject.
type tierAnswer struct {
	Limits     windows     `json:"limits"`
	Tokens     windows     `json:"tokens,omitempty"`
	Concurrent *window     `json:"concurrent,omitempty"`
	Cost       *costWindow `json:"cost,omitempty"`
}

// window is one limit as it stands. Remaining is never negative: a limit that was lowered may be overdrawn.
type window struct {
	Current   json.Number `json:"current"`
	Limit     json.Number `json:"limit"`
	Remaining json.Number `json:"remaining"`
	ResetsAt  string      `json:"resets_at,omitempty"`
}

// costWindow is the money of a window, in USD with all digits.
type costWindow struct {
	Today     json.Number `json:"today"`
	Limit     json.Number `json:"limit"`
	Remaining json.Number `json:"remaining"`
	ResetsAt  string      `json:"resets_at"`
}

// windows are written as one object, in their own order.
type windows []namedWindow

type namedWindow struct {
	name string
	window
}

// MarshalJSON writes the windows as an object whose keys are their names.
func (ws windows) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := range ws {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(ws[i].name)
		if err != nil {
			return nil, fmt.Errorf("write the name of limit %q: %w", ws[i].name, err)
		}
		value, err := json.Marshal(&ws[i].window)
		if err != nil {
			return nil, fmt.Errorf("write limit %q: %w", ws[i].name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (h *handler) stats(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("user_id")
	if id == "" {
		id = r.Header.Get(headerUser)
	}
	if id == "" {
		h.writeError(w, errNoUser)
		return
	}
	select {
	case h.questions <- struct{}{}:
		defer func() { <-h.questions }()
	default:
		w.Header().Set("Retry-After", retryAfter)
		h.writeError(w, errBusy)
		return
	}
	user, global, err := h.opt.Engine.Usage(r.Context(), id)
	if err != nil {
		h.writeError(w, err)
		return
	}
	now := h.opt.Now()
	writeJSON(w, http.StatusOK, contentJSON, statsAnswer{
		UserID:     id,
		tierAnswer: newTier(&user, now),
		Global:     newTier(&global, now),
	})
}

func newTier(u *engine.TierUsage, now time.Time) tierAnswer {
	t := tierAnswer{
		Limits: newWindows(u.Requests, now),
		Tokens: newWindows(u.Tokens, now),
		Cost:   newCost(u.USD, now),
	}
	if u.Concurrent != nil {
		c := newWindow(u.Concurrent, now)
		c.ResetsAt = "" // slots have no window
		t.Concurrent = &c
	}
	return t
}

func newWindows(us []engine.LimitState, now time.Time) windows {
	ws := make(windows, 0, len(us))
	for i := range us {
		ws = append(ws, namedWindow{us[i].Limit.Name, newWindow(&us[i], now)})
	}
	return ws
}

// newCost is the money of the calendar's day; without one, of the window of a day, or of the shortest; nil if money is not
// limited.
func newCost(us []engine.LimitState, now time.Time) *costWindow {
	if len(us) == 0 {
		return nil
	}
	chosen := &us[0]
	for i := range us {
		if c := us[i].Limit.Calendar; c != nil && c.Unit() == store.CalendarDay {
			chosen = &us[i]
			break
		}
		if us[i].Limit.Period == 24*time.Hour {
			chosen = &us[i]
		}
	}
	w := newWindow(chosen, now)
	return &costWindow{Today: w.Current, Limit: w.Limit, Remaining: w.Remaining, ResetsAt: w.ResetsAt}
}

// newWindow is one limit as it stands. A window in which nothing is live is as new: its reset is now.
func newWindow(u *engine.LimitState, now time.Time) window {
	resets := u.Resets
	if resets.IsZero() {
		resets = now
	}
	number := func(amount int64) json.Number { return json.Number(policy.FormatAmount(u.Limit.Unit, amount)) }
	return window{
		Current:   number(u.Used),
		Limit:     number(u.Limit.Max),
		Remaining: number(max(u.Limit.Max-u.Used, 0)),
		ResetsAt:  engine.FormatMoment(resets),
	}
}
