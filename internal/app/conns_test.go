package app

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestConnectionsAreClosedByWhatTheyHaveSaid(t *testing.T) {
	all := newConns()
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := all.on(inner)
	defer func() { _ = l.Close() }()
	connect := func() (client, server net.Conn) {
		t.Helper()
		client, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		server, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	// closed tells whether a client's connection was closed by the server, which it learns in a while, if at all.
	closed := func(client net.Conn, wait time.Duration) bool {
		t.Helper()
		if err := client.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		_, err := client.Read(make([]byte, 1))
		switch {
		case errors.Is(err, io.EOF):
			return true
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		default:
			t.Fatalf("reading: %v", err)
			return false
		}
	}
	silent, _ := connect()
	spoke, server := connect()
	if _, err := spoke.Write([]byte("PRI")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	all.closeSilent()
	if !closed(silent, patience) {
		t.Error("a connection that has said nothing is open")
	}
	if closed(spoke, time.Millisecond) || len(all.open) != 1 {
		t.Errorf("a connection that has said something was closed; %d are known", len(all.open))
	}
	all.closeAll()
	if !closed(spoke, patience) || len(all.open) != 0 {
		t.Errorf("after all were closed, %d are known", len(all.open))
	}
}
