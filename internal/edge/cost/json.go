package cost

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// codec reads and writes JSON: names as in the .proto, every field that has no presence, one line with its end. It refuses
// fields that it does not know and anything after the one value.
type codec struct{ runtime.JSONPb }

func newCodec() *codec {
	return &codec{runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{},
	}}
}

// Marshal writes a message as one line.
func (c *codec) Marshal(v any) ([]byte, error) {
	b, err := c.JSONPb.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the answer: %w", err)
	}
	return append(b, '\n'), nil
}

// NewDecoder reads one message from a body that is in memory. An empty body is io.EOF, which stands for an empty message.
func (c *codec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, err := io.ReadAll(r)
		switch {
		case err != nil:
			return fmt.Errorf("read the body: %w", err)
		case len(body) == 0:
			return io.EOF
		}
		message, ok := v.(proto.Message)
		if !ok {
			return fmt.Errorf("read the body: %T is no message", v)
		}
		if err := c.UnmarshalOptions.Unmarshal(body, message); err != nil {
			return errors.New("the body is not the JSON of this call: " + jsonProblem(err))
		}
		return nil
	})
}

// jsonProblem is what is wrong with a body, without the library's name before it.
func jsonProblem(err error) string {
	text := strings.TrimPrefix(utf8Text(err.Error()), "proto:")
	return strings.TrimLeft(text, " \u00a0")
}
