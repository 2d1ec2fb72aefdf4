// Package telemetry holds every metric, log field and label name in one place, so that dashboards and alerts have one
// page to be written from.
//
// No label and no sampled log field ever holds a request's value: user ids, request ids and descriptor values would make
// the number of series as large as a client likes.
package telemetry
