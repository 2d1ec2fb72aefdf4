package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

// suite is all tests, and then the end of the connections that they share and leave open for one another.
type suite struct{ *testing.M }

// Run runs the tests.
func (s suite) Run() int {
	code := s.M.Run()
	httpClient.CloseIdleConnections()
	return code
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }
