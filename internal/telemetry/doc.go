// Package telemetry holds every metric, label, log field and attribute of spans in one place, so that dashboards and alerts
// have one page to be written from.
//
// No label, no attribute of a span and no sampled log field ever holds a request's value: user ids, request ids and descriptor
// values would make the number of series as large as a client likes. The decision log alone shows whose decision it was, as
// its options say.
package telemetry
