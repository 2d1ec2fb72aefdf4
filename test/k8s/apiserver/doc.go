// Package apiserver applies the objects of deploy/k8s to a real kube-apiserver with a real etcd, as `make test-k8s` does.
// Its tests need both programs on PATH and so have a build tag of their own, apiserver.
package apiserver
