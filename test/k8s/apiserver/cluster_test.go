//go:build apiserver

package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// adminToken is what the test shows; the server listens on the loopback interface for as long as the test lasts.
const adminToken = "test"

// startCluster starts an etcd and a kube-apiserver, and returns how to reach it as an administrator. There is no
// scheduler, no kubelet and no controller: what is applied is admitted and stored, and nothing becomes of it.
func startCluster(t *testing.T) *rest.Config {
	t.Helper()
	etcd := startEtcd(t)
	dir := t.TempDir()
	port := harness.Port(t)
	config := &rest.Config{Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: adminToken}
	config.CAFile = filepath.Join(dir, "apiserver.crt") // which the server makes for itself
	key, public := serviceAccountKey(t, dir)
	harness.Start(t, harness.Program{
		Name: "kube-apiserver", Path: program(t, "kube-apiserver"),
		Args: []string{
			"--etcd-servers=" + etcd,
			"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--cert-dir=" + dir,
			"--service-cluster-ip-range=10.96.0.0/16",
			"--token-auth-file=" + write(t, dir, "tokens.csv", []byte(adminToken+",admin,admin,system:masters\n")),
			"--authorization-mode=RBAC",
			"--allow-privileged=true", // else it is this flag that refuses, and not the namespace
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-signing-key-file=" + key, "--service-account-key-file=" + public,
		},
		Ready: func(ctx context.Context) error {
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err // its certificate is not there yet
			}
			return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		},
	})
	return config
}

// startEtcd starts an etcd and returns where it listens for clients.
func startEtcd(t *testing.T) string {
	t.Helper()
	clients, peers := "http://"+harness.Addr(t), "http://"+harness.Addr(t)
	harness.Start(t, harness.Program{
		Name: "etcd", Path: program(t, "etcd"),
		Args: []string{
			"--data-dir=" + t.TempDir(),
			"--listen-client-urls=" + clients, "--advertise-client-urls=" + clients,
			"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers,
		},
		Ready: func(ctx context.Context) error { return healthy(ctx, clients+"/health") },
	})
	return clients
}

// healthy errs unless a page answers 200.
func healthy(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close() // the status says it all
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return nil
}

// program returns the path of a program.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run this by `make test-k8s`, which installs it", err)
	}
	return path
}

// serviceAccountKey writes a new key for the tokens of service accounts, and returns the files of both halves.
func serviceAccountKey(t *testing.T, dir string) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private = write(t, dir, "sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return private, write(t, dir, "sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func write(t *testing.T, dir, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
