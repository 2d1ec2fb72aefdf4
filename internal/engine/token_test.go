package engine

import (
	"encoding/base64"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

func exampleToken() token {
	return token{
		id: [tokenIDBytes]byte{1, 2, 3}, at: 1_800_000_000_000_000, input: 12, cached: 856, model: "llama-3.2-3b-instruct",
		parts: []tokenPart{
			{subject: store.Subject{Kind: "user", ID: "\x00\xff:{}"}, plan: "standard", usd: 24 * time.Hour, tokens: time.Minute},
			{subject: store.Subject{Kind: policy.GlobalTier}, usd: store.MaxPeriod},
		},
	}
}

func TestATokenSaysAllThatWasPutIntoIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := exampleToken()
		copy(want.id[:], rapid.SliceOfN(rapid.Byte(), tokenIDBytes, tokenIDBytes).Draw(t, "id"))
		want.at = rapid.Int64Range(0, store.MaxAmount).Draw(t, "at")
		want.input = rapid.Int64Range(0, MaxTokens).Draw(t, "input")
		want.cached = rapid.Int64Range(0, MaxTokens).Draw(t, "cached")
		want.model = rapid.StringN(0, -1, MaxModel).Draw(t, "model")
		if want.unheld = rapid.Bool().Draw(t, "unheld"); want.unheld {
			want.usd = rapid.Int64Range(0, store.MaxAmount).Draw(t, "usd")
			want.tokens = rapid.Int64Range(0, store.MaxAmount).Draw(t, "tokens")
		}
		want.parts[0].subject.ID = rapid.String().Draw(t, "user")
		want.parts[0].plan = rapid.String().Draw(t, "plan")
		want.parts[0].usd = time.Duration(rapid.Int64Range(0, int64(store.MaxPeriod/time.Millisecond)).Draw(t, "usd")) * time.Millisecond
		got, err := parseToken(want.encode())
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestATokenThatWasTouchedIsNone(t *testing.T) {
	tok := exampleToken()
	text := tok.encode()
	for i := range text {
		for _, c := range []byte{'A', 'b', '0', '-', '=', '+', '\n', 0} {
			touched := text[:i] + string(rune(c)) + text[i+1:]
			if touched == text {
				continue
			}
			if _, err := parseToken(touched); !errors.Is(err, errToken) {
				t.Fatalf("with %q in place %d it is read: %v", c, i, err)
			}
		}
		if _, err := parseToken(text[:i]); !errors.Is(err, errToken) {
			t.Fatalf("its first %d characters are read: %v", i, err)
		}
	}
	for _, added := range []string{"A", "AA", "=", " ", "\n"} {
		if _, err := parseToken(text + added); !errors.Is(err, errToken) {
			t.Errorf("with %q behind it, it is read: %v", added, err)
		}
	}
}

func TestWhatNoReservationHasMakesNoToken(t *testing.T) {
	for name, change := range map[string]func(*token){
		"a subject twice":             func(k *token) { k.parts = append(k.parts, k.parts[0]) },
		"a subject of no kind":        func(k *token) { k.parts[0].subject.Kind = "" },
		"a global subject with an id": func(k *token) { k.parts[1].subject.ID = "a" },
		"no subject":                  func(k *token) { k.parts = nil },
		"too many subjects": func(k *token) {
			for i := range maxParts {
				k.parts = append(k.parts, tokenPart{subject: store.Subject{Kind: "org", ID: strings.Repeat("x", i)}})
			}
		},
		"a window too long": func(k *token) { k.parts[0].usd = store.MaxPeriod + time.Millisecond },
		"too many tokens":   func(k *token) { k.input = MaxTokens + 1 },
		"a model too long":  func(k *token) { k.model = strings.Repeat("m", MaxModel+1) },
		"a far time":        func(k *token) { k.at = store.MaxAmount + 1 },
	} {
		tok := exampleToken()
		change(&tok)
		if _, err := parseToken(tok.encode()); !errors.Is(err, errToken) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
	tok := exampleToken()
	tok.parts[0].subject.ID = strings.Repeat("x", MaxToken)
	if text := tok.encode(); text != "" {
		t.Errorf("a token of %d characters was made; the most is %d", len(text), MaxToken)
	}
}

func TestATokenIsBookedWhileTheStoreWouldKnowItsHold(t *testing.T) {
	tok := exampleToken()
	admitted := time.UnixMicro(tok.at)
	if got := tok.book(admitted.Add(23*time.Hour - time.Microsecond)); got != tok.at {
		t.Errorf("within 23 hours: books at %d, want %d", got, tok.at)
	}
	if got := tok.book(admitted.Add(23 * time.Hour)); got != 0 {
		t.Errorf("after 23 hours: books at %d, want 0, for never", got)
	}
}

// FuzzToken reads arbitrary texts, and arbitrary bytes with a right checksum. What is read has one spelling.
func FuzzToken(f *testing.F) {
	tok := exampleToken()
	f.Add([]byte(tok.encode()))
	f.Add(tok.append(nil))
	tok.unheld, tok.parts = true, nil
	f.Add(tok.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts := []string{string(data), base64.RawURLEncoding.EncodeToString(data)}
		if len(data) > tokenChecksum {
			body := data[:len(data)-tokenChecksum]
			texts = append(texts, base64.RawURLEncoding.EncodeToString(sealed(slices.Clip(body))))
		}
		for _, text := range texts {
			got, err := parseToken(text)
			if err != nil {
				continue
			}
			if again := got.encode(); again != text {
				t.Fatalf("%q is read as %+v, which is written %q", text, got, again)
			}
		}
	})
}
