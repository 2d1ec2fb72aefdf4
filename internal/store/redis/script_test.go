package redis

import "testing"

func TestInlinePutsConstantsInTheirPlace(t *testing.T) {
	for name, tc := range map[string]struct{ source, want string }{
		"numbers":             {"local SIZE = 14\nreturn SIZE + 1", "return 14 + 1\n"},
		"several in one line": {"local ENTRY, ENTRY_SIZE = '>I7I7', 14\nuse(ENTRY, ENTRY_SIZE)", "use('>I7I7', 14)\n"},
		"whole words only":    {"local N = 3\nlocal n, N2, MAN = N, N2, MAN", "local n, N2, MAN = 3, N2, MAN\n"},
		"not in strings":      {"local N = 3\nreturn 'N'", "return 'N'\n"},
		"a computed local stays": {
			"local floor, max = math.floor, math.max\nlocal KEYS, ARGV = KEYS, ARGV",
			"local floor, max = math.floor, math.max\nlocal KEYS, ARGV = KEYS, ARGV\n",
		},
		"comments and indentation go":             {"-- all about it\n  local a = 1 -- why\n\n  return a", "local a = 1\nreturn a\n"},
		"a constant inside a function is not one": {"  local N = 3\n  return N", "local N = 3\nreturn N\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inline(tc.source); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}
