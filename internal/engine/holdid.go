package engine

import (
	"crypto/rand"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// keyedID is the id of what a user asks for under an idempotency key: the same for every daemon.
func keyedID(purpose string, user store.Subject, key string) [tokenIDBytes]byte {
	d := newDigest(purpose)
	d.text(user.Kind)
	d.text(user.ID)
	d.text(key)
	return d.id()
}

// randomID is the id of a hold that nobody asks for again.
func randomID() (id [tokenIDBytes]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}
