// Package monitoring reads what deploy/ has for Prometheus, Alertmanager and Grafana, and runs two daemons under load before a
// real Prometheus: the tests ask it every query of every rule and panel, and the pictures of the documentation are drawn from it.
package monitoring

//go:generate go run ./ruleobject -dir ../../deploy
