package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// TestEnvoyTakesTheShippedCostConfiguration has Envoy check the file that the docs show, as it stands.
func TestEnvoyTakesTheShippedCostConfiguration(t *testing.T) {
	t.Parallel()
	harness.CheckEnvoy(t, harness.EnvoyCostFile)
}

// media are content types of answers.
const (
	jsonMedia  = "application/json"
	eventMedia = "text/event-stream; charset=utf-8"
)

// plainUsage is the usage of the example that all prices are checked with.
const plainUsage = `"usage":{"prompt_tokens":868,"completion_tokens":145,"total_tokens":1013}`

// answerCase is an answer of an assistant, and what ratelimitd is to be told of its usage.
type answerCase struct {
	name   string
	media  string // "application/json" if empty
	header map[string]string
	status int
	body   string
	want   told // with the kinds of usage, in order, under "usage"
}

// used is what is told of an answer with so many tokens of input and output.
func used(input, output string, more ...string) told {
	w := told{"usage": "end input_tokens output_tokens", "input_tokens": input, "output_tokens": output}
	for i := 0; i+1 < len(more); i += 2 {
		w[more[i]] = more[i+1]
	}
	return w
}

// nothing is what is told of an answer without usage.
var nothing = told{"usage": "end"}

func answerCases() []answerCase {
	return []answerCase{
		{name: "JSON", body: `{"id":"x","choices":[{"message":{"content":"hi"}}],` + plainUsage + `}`, want: used("868", "145")},
		{
			name: "JSON with the model", body: `{"model":"llama-3.2-3b-instruct",` + plainUsage + `}`,
			want: used("868", "145", "model", "llama-3.2-3b-instruct"),
		},
		{
			name: "JSON with room",
			body: "{\r\n \"choices\" : [ ] ,\n\t\"usage\" : {\n \"prompt_tokens\" : 868 ,\n \"completion_tokens\"\n:\n145\n }\n }\n",
			want: used("868", "145"),
		},
		{
			name: "cached and reasoning tokens are parts of their sums",
			body: `{"usage":{"prompt_tokens":868,"completion_tokens":145,"prompt_tokens_details":{"cached_tokens":800,"audio_tokens":0},` +
				`"completion_tokens_details":{"reasoning_tokens":45,"x":[1,{"reasoning_tokens":9}]}}}`,
			want: used("68", "100", "cache_read_tokens", "800", "reasoning_tokens", "45",
				"usage", "end input_tokens cache_read_tokens output_tokens reasoning_tokens"),
		},
		{
			name: "tokens written to a cache",
			body: `{"usage":{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cache_write_tokens":60}}}`,
			want: used("40", "1", "cache_write_tokens", "60", "usage", "end input_tokens cache_write_tokens output_tokens"),
		},
		{
			name: "parts larger than their sum",
			body: `{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":9},` +
				`"completion_tokens_details":{"reasoning_tokens":7}}}`,
			want: used("0", "0", "cache_read_tokens", "5", "reasoning_tokens", "2",
				"usage", "end input_tokens cache_read_tokens output_tokens reasoning_tokens"),
		},
		{
			name: "the provider's cost",
			body: `{"usage":{"prompt_tokens":868,"completion_tokens":145,"cost":0.0002606}}`,
			want: used("868", "145", "cost", "2606", "usage", "end input_tokens output_tokens cost"),
		},
		{
			name: "a cost finer than a unit is rounded up",
			body: `{"usage":{"prompt_tokens":868,"completion_tokens":145,"cost":2.6060001e-4}}`,
			want: used("868", "145", "cost", "2607", "usage", "end input_tokens output_tokens cost"),
		},
		{
			name: "a text that looks like a usage",
			body: `{"choices":[{"message":{"content":` +
				strconv.Quote(`"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}} \`) + `}}],` + plainUsage + `}`,
			want: used("868", "145"),
		},
		{
			name: "such a text after the usage",
			body: `{` + plainUsage + `,"x":` + strconv.Quote(`,"usage":{"completion_tokens":1}`) + `,"y":"\\\"","z":"\u0022"}`,
			want: used("868", "145"),
		},
		{
			name: "a usage that is not the answer's",
			body: `{"choices":[{"usage":{"prompt_tokens":1}}],"other":{"usage":{"completion_tokens":2}},"usage":[{"prompt_tokens":3}]}`,
			want: nothing,
		},
		{
			name: "numbers that are none",
			body: `{"usage":{"prompt_tokens":"868","completion_tokens":-1,"cost":"1","prompt_tokens_details":null}}`,
			want: nothing,
		},
		{name: "usage is null", body: `{"usage":null}`, want: nothing},
		{name: "more tokens than Envoy can tell", body: `{"usage":{"prompt_tokens":1000000001,"completion_tokens":2}}`, want: told{
			"usage": "end output_tokens", "output_tokens": "2",
		}},
		{name: "no JSON", body: `}}]]"{{{[[[,,,:::"\`, want: nothing},
		{name: "an empty body", want: nothing},
		{name: "another type", media: "text/plain", body: `{` + plainUsage + `}`, want: nothing},
		{
			name: "a compressed answer", header: map[string]string{"Content-Encoding": "br"}, body: `{` + plainUsage + `}`,
			want: nothing,
		},
		{
			name: "an error", status: http.StatusBadGateway, body: `{` + plainUsage + `}`,
			want: told{"usage": "end", "outcome": "error"},
		},
		{
			name: "a hit of the assistant's cache", header: map[string]string{"X-Assistant-Cache": "HIT"}, body: `{"choices":[]}`,
			want: told{"usage": "end cache_hit"},
		},
		{
			name: "the API of responses", body: `{"object":"response","model":"m","usage":{"input_tokens":9,` +
				`"input_tokens_details":{"cached_tokens":4},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0}}}`,
			want: used("5", "3", "cache_read_tokens", "4", "model", "m", "usage", "end input_tokens cache_read_tokens output_tokens"),
		},
		{
			name: "a model's name that no descriptor can hold", body: `{"model":"` + strings.Repeat("m", 300) + `",` + plainUsage + `}`,
			want: used("868", "145"),
		},
		{name: "a model's name that is no name", body: "{\"model\":\"a\xffb\"," + plainUsage + `}`, want: used("868", "145")},
		{
			name: "deep nesting",
			body: `{"a":` + strings.Repeat(`[{"usage":`, 300) + `1` + strings.Repeat(`}]`, 300) + `,` + plainUsage + `}`,
			want: used("868", "145"),
		},

		{
			name: "a long answer",
			body: `{"choices":[{"message":{"content":"` + strings.Repeat(`\"usage\":{`, 4000) + `"}}],` + plainUsage + `}`,
			want: used("868", "145"),
		},

		{name: "events", media: eventMedia, body: events("\n"), want: used("868", "145", "model", "m")},
		{name: "events with CRLF", media: eventMedia, body: events("\r\n"), want: used("868", "145", "model", "m")},
		{name: "events with CR", media: eventMedia, body: events("\r"), want: used("868", "145", "model", "m")},
		{
			name: "usage in every event: the last one counts", media: eventMedia,
			body: "data: {\"usage\":{\"prompt_tokens\":868,\"completion_tokens\":1," +
				"\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n" + "data: {" + plainUsage + "}\n\ndata: [DONE]\n\n",
			want: used("868", "145", "reasoning_tokens", "0", "usage", "end input_tokens output_tokens reasoning_tokens"),
		},
		{
			name: "an event over several lines, and a broken one before it", media: eventMedia,
			body: "data: {\"choices\":[\"broken\n\nevent: x\nid: 1\n: comment {\ndata:{\"usage\":\ndata: {\"prompt_tokens\":868,\n" +
				"data: \"completion_tokens\":145}\ndata: }\n\n",
			want: used("868", "145"),
		},
		{
			name: "an event over several lines, with CRLF", media: eventMedia,
			body: "data: {\"usage\":\r\ndata: {\"prompt_tokens\":868,\"completion_tokens\":145}}\r\n\r\n", want: used("868", "145"),
		},
		{
			name: "an event of the API of responses", media: eventMedia,
			body: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"usage\":" +
				"{\"input_tokens\":868,\"output_tokens\":145}}}\n\n",
			want: used("868", "145", "model", "m"),
		},
		{
			name: "fields that are not data", media: eventMedia,
			body: "datas: {" + plainUsage + "}\n\nevent:{" + plainUsage + "}\n\n", want: nothing,
		},
	}
}

// events is a stream of a chat, as OpenAI's API writes it, with a line ending of the caller's choice.
func events(end string) string {
	var b strings.Builder
	for _, data := range []string{
		`{"model":"m","choices":[{"delta":{"content":"\",\"usage\":{\"completion_tokens\":1}"}}],"usage":null}`,
		`{"model":"m","choices":[{"delta":{"content":"data: {\"usage\":{\"completion_tokens\":2}}\\"}}],"usage":null}`,
		`{"model":"m","choices":[],` + plainUsage + `}`, `[DONE]`,
	} {
		b.WriteString("data: " + data + end + end)
	}
	return b.String()
}

// TestUsageIsReadFromTheAnswer has Envoy read answers, in one piece and cut into bytes, and compares what it tells.
func TestUsageIsReadFromTheAnswer(t *testing.T) {
	t.Parallel()
	cases := answerCases()
	assistant := harness.Assistant(t, func(r *http.Request) harness.Reply {
		n, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		if err != nil || n >= len(cases) {
			return harness.Reply{Status: http.StatusNotFound}
		}
		return cases[n].reply(r.URL.Query().Get("cut") != "")
	})
	s := newSidecar(t)
	e := harness.Envoy(t, harness.EnvoyCostFile, harness.Between(t, assistant.Addr, s.addr))
	for i, c := range cases {
		for _, cut := range []string{"", "yes"} {
			t.Run(c.name+map[string]string{"": "", "yes": ", cut"}[cut], func(t *testing.T) {
				t.Parallel()
				user := fmt.Sprintf("user-%d-%s", i, cut)
				r := get(t, fmt.Sprintf("%s/%d?cut=%s", e.URL, i, cut), user)
				if r.body != c.body {
					t.Errorf("the client got %q, want %q", r.body, c.body)
				}
				want := told{"user_id": user, "hold": "token-of-" + user, "outcome": "success"}
				maps.Copy(want, c.want)
				if got := s.end(t, user); !maps.Equal(got, want) {
					t.Errorf("of %s\nEnvoy tells %v\nwant        %v", c.body, got, want)
				}
			})
		}
	}
}

// reply is the case as the assistant answers it, in one piece or byte by byte.
func (c answerCase) reply(cut bool) harness.Reply {
	media := c.media
	if media == "" {
		media = jsonMedia
	}
	r := harness.Reply{Status: c.status, Header: map[string]string{"Content-Type": media}, Chunks: []string{c.body}}
	maps.Copy(r.Header, c.header)
	if cut {
		r.Chunks = strings.Split(c.body, "")
		if strings.ToValidUTF8(c.body, "") != c.body {
			r.Chunks = []string{c.body[:1], c.body[1:]}
		}
	}
	return r
}

// TestEveryEndIsTold has requests end in every way: what is held is always ended, and what is not held is not.
func TestEveryEndIsTold(t *testing.T) {
	t.Parallel()
	stay := make(chan struct{})
	t.Cleanup(func() { close(stay) })
	answer := harness.Reply{Header: map[string]string{"Content-Type": eventMedia}, Chunks: []string{"data: {}\n\n"}}
	replies := map[string]harness.Reply{
		"/whole":          answer,
		"/usage":          {Header: answer.Header, Chunks: []string{"data: {" + plainUsage + "}\n\n"}},
		"/usage-and-wait": {Header: answer.Header, Chunks: []string{"data: {" + plainUsage + "}\n\n"}, Stay: stay},
		"/wait":           {Wait: stay},
		"/started":        {Header: answer.Header, Chunks: answer.Chunks, Stay: stay},
		"/reset":          {Reset: true},
		"/broken":         {Header: answer.Header, Chunks: answer.Chunks, Reset: true},
		"/too-many":       {Status: http.StatusTooManyRequests},
	}
	arrived := make(chan struct{})
	assistant := harness.Assistant(t, func(r *http.Request) harness.Reply {
		if r.URL.Path == "/wait" {
			close(arrived)
		}
		return replies[r.URL.Path]
	})
	s := newSidecar(t)
	e := harness.Envoy(t, harness.EnvoyCostFile, harness.Between(t, assistant.Addr, s.addr))
	for _, c := range []struct {
		name, path, user string
		leave            bool // the client goes before the answer's end
		http2            bool
		want             told
	}{
		{name: "a whole answer", path: "/whole", user: "a", want: told{"hold": "token-of-a", "usage": "end", "outcome": "success"}},
		{
			name: "the client goes before the answer", path: "/wait", user: "b", leave: true,
			want: told{"hold": "token-of-b", "usage": "end", "outcome": "cancelled"},
		},
		{
			name: "the client goes within the answer", path: "/started", user: "c", leave: true,
			want: told{"hold": "token-of-c", "usage": "end", "outcome": "cancelled"},
		},
		{
			name: "the client goes after the usage", path: "/usage-and-wait", user: "d", leave: true,
			want: used("868", "145", "hold", "token-of-d", "outcome", "cancelled"),
		},
		{
			name: "a client of HTTP/2 goes within the answer", path: "/started", user: "h", leave: true, http2: true,
			want: told{"hold": "token-of-h", "usage": "end", "outcome": "cancelled"},
		},
		{
			name: "the assistant breaks off before its answer", path: "/reset", user: "e",
			want: told{"hold": "token-of-e", "usage": "end", "outcome": "error"},
		},
		{
			name: "the assistant breaks off within its answer", path: "/broken", user: "f",
			want: told{"hold": "token-of-f", "usage": "end", "outcome": "error"},
		},
		{
			name: "the assistant denies", path: "/too-many", user: "g",
			want: told{"hold": "token-of-g", "usage": "end", "outcome": "error"},
		},
		{name: "ratelimitd does not answer", path: "/usage", user: unansweredUser, want: used("868", "145", "outcome", "success")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			switch {
			case c.path == "/wait":
				leaveWhen(t, func() { <-arrived }, e.URL+c.path, c.user)
			case c.leave:
				leaveWithin(t, client(t, c.http2), e.URL+c.path, c.user)
			default:
				_, _ = fetch(t.Context(), e.URL+c.path, c.user) // a broken answer is an error
			}
			c.want["user_id"] = c.user
			if got := s.end(t, c.user); !maps.Equal(got, c.want) {
				t.Errorf("Envoy tells %v\nwant        %v", got, c.want)
			}
		})
	}
}

// leaveWhen sends a request of a user and goes when ready returns.
func leaveWhen(t *testing.T, ready func(), url, user string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		_, err := fetch(ctx, url, user)
		gone <- err
	}()
	ready()
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that goes gets %v, want it to have gone", err)
	}
}

// leaveWithin sends a request of a user and goes when the answer has begun.
func leaveWithin(t *testing.T, client *http.Client, url, user string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User-Id", user)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // the client goes
	if _, err := res.Body.Read(make([]byte, 1)); err != nil {
		t.Fatalf("read the answer's first byte: %v", err)
	}
}

// client returns a client of HTTP/1.1, or of HTTP/2 without TLS.
func client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	if !http2 {
		return httpClient
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: harness.Patience, Transport: transport}
}

// TestDeniedRequestEndsNothing has a denied request, which holds nothing: nothing is told of its end.
func TestDeniedRequestEndsNothing(t *testing.T) {
	t.Parallel()
	assistant := harness.Assistant(t, func(*http.Request) harness.Reply { return harness.Reply{} })
	s := newSidecar(t)
	e := harness.Envoy(t, harness.EnvoyCostFile, harness.Between(t, assistant.Addr, s.addr))
	if r := get(t, e.URL, deniedUser); r.status != http.StatusTooManyRequests {
		t.Fatalf("status %d, want 429", r.status)
	}
	get(t, e.URL, "later")
	s.end(t, "later") // what would be told of the denied one was told before
	if n := s.ends(deniedUser); n != 0 {
		t.Errorf("%d ends are told of a denied request, want none", n)
	}
	if assistant.Hits() != 1 {
		t.Errorf("%d requests reached the assistant, want 1", assistant.Hits())
	}
}

// TestWhatIsAskedBeforehand has clients set every header that a question may be made from.
func TestWhatIsAskedBeforehand(t *testing.T) {
	t.Parallel()
	assistant := harness.Assistant(t, func(r *http.Request) harness.Reply {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("the assistant is asked for the encoding %q, which Envoy could not read", got)
		}
		return harness.Reply{}
	})
	s := newSidecar(t)
	shipped := harness.Between(t, assistant.Addr, s.addr)
	trusting := shipped.With("- remove: x-model", "- remove: x-1").With("- remove: x-estimated-input-tokens", "- remove: x-2").
		With("- remove: x-max-output-tokens", "- remove: x-3")
	estimates := map[string]string{
		"x-model": "gpt", "x-estimated-input-tokens": "12", "x-max-output-tokens": "99", "x-request-id": "mine",
	}
	long := strings.Repeat("x", 8000)
	e, trustingEnvoy := harness.Envoy(t, harness.EnvoyCostFile, shipped), harness.Envoy(t, harness.EnvoyCostFile, trusting)
	for _, c := range []struct {
		name   string
		envoy  *harness.EnvoyProxy
		user   string
		header map[string]string
		want   told
	}{
		{name: "a client's estimates", envoy: e, user: "a", header: estimates, want: told{"user_id": "a", "request_id": "mine"}},
		{name: "a trusted proxy's estimates", envoy: trustingEnvoy, user: "b", header: estimates, want: told{
			"user_id": "b", "request_id": "mine", "model": "gpt", "input_tokens": "12", "max_output_tokens": "99",
		}},
		{
			name: "nobody", envoy: e, header: map[string]string{"x-request-id": "r"},
			want: told{"user_id": "anonymous", "request_id": "r"},
		},
		{
			name: "an endless id", envoy: e, user: "c", header: map[string]string{"x-request-id": long},
			want: told{"user_id": "c", "request_id": long},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if r := send(t, c.envoy.URL, c.user, c.header); r.status != http.StatusOK {
				t.Fatalf("status %d, want 200: %s", r.status, r.body)
			}
			if got := s.question(t, c.want["user_id"]); !maps.Equal(got, c.want) {
				t.Errorf("Envoy asks %v\nwant       %v", got, c.want)
			}
		})
	}
	t.Run("an empty id", func(t *testing.T) {
		t.Parallel()
		send(t, e.URL, "d", map[string]string{"x-request-id": ""})
		if got := s.question(t, "d"); got["request_id"] == "" {
			t.Errorf("Envoy asks %v, want some request_id", got)
		}
	})
}

// send gets a page as a user with further headers.
func send(t *testing.T, url, user string, header map[string]string) reply {
	t.Helper()
	r, err := fetchWith(t.Context(), url, user, header)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
