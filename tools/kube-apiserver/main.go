// Command kube-apiserver is the real API server of Kubernetes, which the tests of the manifests run against.
package main

import (
	"os"
	_ "time/tzdata" // a CronJob's time zone must not need the machine's

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
