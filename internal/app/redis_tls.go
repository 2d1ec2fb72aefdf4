package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// tlsText is what the environment says of TLS to Redis.
type tlsText struct {
	enabled          *bool
	caFile           string
	certFile, keyOf  string
	serverName       string
	insecure         bool
	namesOfWhatIsSet []string
}

// tlsSettings are those of TLS to Redis.
func tlsSettings() []Setting {
	text := func(env, values, help string, to func(*tlsText) *string) Setting {
		return Setting{Env: env, Values: values, Help: help, read: func(r *reading, v string) error {
			t := &r.redis.tls
			*to(t) = v
			t.namesOfWhatIsSet = append(t.namesOfWhatIsSet, env)
			return nil
		}}
	}
	return []Setting{
		{
			Env: "REDIS_TLS_ENABLED", Default: "false", Values: "true or false",
			Help: "Speak TLS to Redis; rediss:// says so too.",
			read: func(r *reading, v string) error {
				r.redis.tls.enabled = new(bool)
				return readBool(v, r.redis.tls.enabled)
			},
		},
		text("REDIS_TLS_CA_FILE", "a path of PEM", "The authorities to trust in place of the system's.",
			func(t *tlsText) *string { return &t.caFile }),
		text("REDIS_TLS_CERT_FILE", "a path of PEM", "This client's certificate.",
			func(t *tlsText) *string { return &t.certFile }),
		text("REDIS_TLS_KEY_FILE", "a path of PEM", "The key of the certificate.",
			func(t *tlsText) *string { return &t.keyOf }),
		text("REDIS_TLS_SERVER_NAME", "a host name", "The name to expect in the server's certificate.",
			func(t *tlsText) *string { return &t.serverName }),
		{
			Env: "REDIS_TLS_INSECURE_SKIP_VERIFY", Default: "false", Values: "true or false",
			Help: "Accept any certificate; for tests.",
			read: func(r *reading, v string) error { return readBool(v, &r.redis.tls.insecure) },
		},
	}
}

// finishTLS reads the certificates.
func (r *reading) finishTLS() error {
	t := &r.redis.tls
	secured := r.redis.url != nil && r.redis.url.Scheme == "rediss"
	switch {
	case secured && t.enabled != nil && !*t.enabled:
		return errors.New("REDIS_URL says rediss:// and REDIS_TLS_ENABLED says false: change one")
	case !secured && (t.enabled == nil || !*t.enabled):
		if len(t.namesOfWhatIsSet) > 0 {
			return fmt.Errorf("%s is set, but TLS is off: set REDIS_TLS_ENABLED=true", strings.Join(t.namesOfWhatIsSet, ", "))
		}
		return nil
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.serverName,
		InsecureSkipVerify: t.insecure, //nolint:gosec // the operator asks for it by a setting of that name
	}
	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return fmt.Errorf("REDIS_TLS_CA_FILE cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("REDIS_TLS_CA_FILE=%q holds no certificate: write the path of a PEM file", t.caFile)
		}
	}
	if (t.certFile == "") != (t.keyOf == "") {
		return errors.New("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE belong together: set both or none")
	}
	if t.certFile != "" {
		pair, err := tls.LoadX509KeyPair(t.certFile, t.keyOf)
		if err != nil {
			return fmt.Errorf("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE cannot be read: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	r.opt.Redis.TLS = config
	return nil
}
